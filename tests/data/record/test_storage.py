"""Where a run writes: the same promises of a folder, of fsspec's memory and of S3."""

import os
import pickle
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from geo_ray.data.record.storage import PARTIAL, FolderStore, ObjectStore, open_store
from geo_ray.errors import OutputError
from tests.data.s3_server import s3_server

KINDS = ["folder", "file uri", "memory", "s3"]


@pytest.fixture(scope="module")
def s3():
    with s3_server("out") as client:
        yield client


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    """An empty store of each kind; its folder isn't there yet."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return open_store(f"s3://out/{uuid.uuid4().hex}/")
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}/out")
    return open_store(f"file://{tmp_path}/a%20b/out" if request.param == "file uri" else str(tmp_path / "deep" / "out"))


def at_once(acts):
    """What each of the acts answers, begun at the same time."""
    ready = threading.Barrier(len(acts))
    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(lambda act: (ready.wait(), act())[1], acts))


def test_kinds_of_addresses(tmp_path):
    assert isinstance(open_store(str(tmp_path)), FolderStore)
    assert isinstance(open_store(f"file://{tmp_path}"), FolderStore)
    assert isinstance(open_store("memory://x"), ObjectStore)


def test_a_file_uri_is_its_folder(tmp_path):
    open_store(f"file://{tmp_path}/a%20b").write("x", b"1")
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"


def test_nothing_is_there_at_first(store):
    assert store.read("run.json") is None
    assert store.read("parts/x.parquet") is None
    assert store.age_s("run.json") is None
    assert store.names("parts") == []
    store.delete("run.json")
    store.delete("parts/x.parquet")


@pytest.mark.parametrize("content", [b"", b"one", b"x" * 300_000])
def test_what_is_written_is_read(store, content):
    store.write("run.json", b"before")
    store.write("run.json", content)
    assert store.read("run.json") == content
    store.delete("run.json")
    assert store.read("run.json") is None


def test_names_are_the_files_directly_in_a_folder(store):
    for name in ("parts/b.parquet", "parts/a.parquet", "parts/deep/c.parquet", "parts2/d", "e"):
        store.write(name, name.encode())
    assert store.names("parts") == ["a.parquet", "b.parquet"]
    assert store.names("parts/deep") == ["c.parquet"]
    store.delete("parts/a.parquet")
    assert store.names("parts") == ["b.parquet"]


def test_many_files_are_taken_away_and_no_others(store, monkeypatch):
    monkeypatch.setattr("geo_ray.data.record.storage.NAMES_PER_DELETE", 3)
    for number in range(8):
        store.write(f"parts/{number}", b"x")
    store.delete_all(f"parts/{number}" for number in (0, 1, 2, 3, 4, 5, 6, 99))
    assert store.names("parts") == ["7"]
    store.delete_all([])
    assert store.names("parts") == ["7"]


def test_a_name_that_is_there_is_not_created_again(store):
    assert store.create("_LOCK", b"first")
    assert not store.create("_LOCK", b"second")
    assert store.read("_LOCK") == b"first"
    store.delete("_LOCK")
    assert store.create("_LOCK", b"third")
    assert store.read("_LOCK") == b"third"


def test_of_many_that_create_at_a_time_one_does(store):
    for round_number in range(5):
        name, contents = f"lock{round_number}", [f"{number}".encode() for number in range(8)]
        made = at_once([lambda content=content, name=name: store.create(name, content) for content in contents])
        assert made.count(True) == 1
        assert store.read(name) == contents[made.index(True)]


def test_readers_see_one_content_or_the_other(store):
    contents = [bytes([number]) * 200_000 for number in range(4)]
    store.write("ledger.json", contents[0])
    ended = threading.Event()

    def write():
        for number in range(20):
            store.write("ledger.json", contents[number % 4])
        ended.set()

    def read():
        seen = set()
        while not ended.is_set():
            seen.add(store.read("ledger.json"))
        return seen

    seen = set().union(*at_once([write, read, read])[1:])
    assert seen
    assert seen <= set(contents)


def test_the_age_of_a_file(store):
    store.write("_LOCK", b"x")
    time.sleep(0.05)
    assert -2 < store.age_s("_LOCK") < 60  # S3 tells whole seconds


def test_a_store_that_was_sent_elsewhere(store):
    store.write("x", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert type(again) is type(store)
    assert again.read("x") == b"1"


def test_a_folder_that_became_relative_stays_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = open_store("out")
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.write("x", b"1")
    assert (tmp_path / "out" / "x").exists()


def test_a_write_that_fails_leaves_the_file_and_nothing_beside_it(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    store.write("x", b"before")

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        patch.setattr(os, "link", fail)
        with pytest.raises(OutputError, match=r"can't be written .*No space left on device.*name another --output"):
            store.write("x", b"after")
        with pytest.raises(OutputError, match="No space left"):
            store.create("y", b"after")
    assert os.listdir(tmp_path) == ["x"]
    assert store.read("x") == b"before"


def test_what_a_killed_writer_left_is_no_file(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / f"{PARTIAL}0123").write_bytes(b"PAR1")
    (tmp_path / "parts" / "whole").write_bytes(b"PAR1")
    store = open_store(str(tmp_path))
    assert store.names("parts") == ["whole"]
    store.sweep("parts")
    store.sweep("not there")
    assert os.listdir(tmp_path / "parts") == ["whole"]


@pytest.mark.parametrize(
    "act",
    [lambda s: s.write("x", b""), lambda s: s.create("x", b""), lambda s: s.names("parts"), lambda s: s.read("x/y")],
)
def test_a_place_that_is_a_file(tmp_path, act):
    (tmp_path / "out").write_bytes(b"")
    store = open_store(str(tmp_path / "out" / "deep"))
    with pytest.raises(OutputError, match=r"out/deep' can't be written"):
        act(store)


def test_a_bucket_that_is_not_there_is_named(s3):
    store = open_store("s3://no-such-bucket/out")
    for act in (lambda: store.write("x", b""), lambda: store.create("x", b"")):
        with pytest.raises(OutputError, match=r"s3://no-such-bucket/out' can't be written .*bucket does not exist"):
            act()


class Flaky:
    """A file system of which the first calls fail, after the change is made (``late``) or before."""

    def __init__(self, fs, failures, late=False, error=OSError):
        self._fs, self.left, self._late, self._error = fs, failures, late, error

    def __getattr__(self, name):
        return lambda *args, **keys: self._call(getattr(self._fs, name), *args, **keys)

    def _call(self, act, *args, **keys):
        self.left -= 1
        if self.left >= 0 and not self._late:
            raise self._error("503 Slow Down")
        answer = act(*args, **keys)
        if self.left >= 0:
            raise self._error("connection reset")
        return answer


@pytest.fixture
def flaky(monkeypatch):
    monkeypatch.setattr("geo_ray.data.record.storage.time.sleep", lambda seconds: None)
    store = open_store(f"memory://{uuid.uuid4().hex}")
    whole = store._fs

    def with_failures(failures, **keys):
        store._fs = Flaky(whole, failures, **keys)
        return store

    return with_failures


@pytest.mark.parametrize("late", [True, False])
def test_errors_that_pass_are_waited_for(flaky, late):
    store = flaky(4, late=late)
    store.write("parts/x", b"1")
    assert store._fs.left == -1
    assert flaky(4, late=late).read("parts/x") == b"1"
    assert flaky(4, late=late).names("parts") == ["x"]
    assert flaky(4, late=late).age_s("parts/x") >= 0
    flaky(4, late=late).delete("parts/x")
    assert flaky(0).read("parts/x") is None


def test_errors_that_stay_are_named(flaky):
    with pytest.raises(OutputError, match=r"memory://.*503 Slow Down"):
        flaky(5).write("x", b"1")
    with pytest.raises(OutputError, match="503 Slow Down"):
        flaky(1).create("x", b"1")
    store = flaky(1, error=PermissionError)
    with pytest.raises(OutputError, match="503"):
        store.write("x", b"1")
    assert store._fs.left == 0


def test_a_creation_whose_answer_was_lost_is_ours(flaky):
    assert flaky(1, late=True).create("_LOCK", b"mine")
    assert not flaky(1, late=True).create("_LOCK", b"yours")
