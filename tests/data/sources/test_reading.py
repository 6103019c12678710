"""Reading many files at a time: order, bounds, and trouble that passes."""

import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from geo_ray.data.fetch.policy import FetchPolicy
from geo_ray.data.fetch.prefetch import in_order
from geo_ray.data.sources import Input, fetch, input_batches, read_bytes, reading
from geo_ray.data.sources.reading import Reader
from tests.data.web_server import IMAGE, policy, serving


def test_reads_come_in_order_and_no_more_are_under_way_than_allowed():
    started, most = [], []

    def reads():
        for number in range(20):
            future = Future()
            started.append(future)
            if number % 3:
                future.set_result([(b"%d" % number, "")])
            else:
                threading.Timer(0.01, future.set_result, [[(b"%d" % number, "")]]).start()
            yield number, [future]

    taken = []
    for tag, contents in in_order(reads(), max_reads=4):
        taken.append((tag, contents))
        most.append(len(started) - len(taken))
    assert taken == [(number, [(b"%d" % number, "")]) for number in range(20)]
    assert max(most) == 3


def test_no_more_bytes_are_held_than_allowed():
    pulled = []

    def reads():
        for number in range(50):
            future = Future()
            future.set_result([(bytes(1000), "")])
            pulled.append(number)
            yield number, [future]

    ahead = [len(pulled) - tag for tag, _ in in_order(reads(), max_reads=40, max_bytes=5000)]
    assert max(ahead) == 6


def test_several_files_are_read_at_a_time_and_items_keep_their_views(tmp_path):
    fsspec.filesystem("memory").pipe("/apart/x.jpg", b"x")
    places, items = {}, []
    for number in range(40):
        views = [f"{tmp_path}/{number}-{view}.jpg" for view in range(1 + number % 3)]
        for view in views:
            places[view] = view.encode()
            (tmp_path / view).write_bytes(view.encode())
        if number % 13 == 12:
            views.append("memory://apart/x.jpg")
        items.append(Input(image_id=str(number), uri=views[0], more_views=tuple(views[1:])))
    with Reader(policy()) as reader:
        rows = list(reader.rows(items))
    assert [row.image_id for row in rows] == [item.image_id for item in items]
    assert [row.contents for row in rows] == [tuple(places.get(uri, b"x") for uri in item.views) for item in items]


def test_what_fails_in_a_read_is_raised():
    future = Future()
    future.set_exception(MemoryError("full"))
    with pytest.raises(MemoryError, match="full"):
        list(in_order([(0, [future])], 2))


@pytest.fixture
def flaky(monkeypatch):
    """An object store in memory that fails as often as ``failures`` says; ``asked`` counts."""
    state = SimpleNamespace(failures=0, asked=0)
    cat_file = MemoryFileSystem.cat_file

    def failing(self, path, *args, **kwargs):
        state.asked += 1
        if state.asked <= state.failures:
            raise OSError(5, "please reduce your request rate")
        return cat_file(self, path, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fsspec.filesystem("memory").pipe("/flaky/a.jpg", b"a")
    return state


@pytest.mark.parametrize(("failures", "answer"), [(0, (b"a", "")), (2, (b"a", "")), (3, (None, "fetch_failed"))])
def test_a_read_that_fails_for_a_moment_is_tried_again(flaky, failures, answer):
    flaky.failures = failures
    assert read_bytes("memory://flaky/a.jpg") == answer
    assert flaky.asked == min(failures + 1, 3)


def test_what_is_not_there_is_asked_for_once(flaky):
    assert read_bytes("memory://flaky/gone.jpg") == (None, "fetch_failed")
    assert flaky.asked == 1


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(11))
    (tmp_path / "b.jpg").write_bytes(bytes(10))
    fsspec.filesystem("memory").pipe("/large/a.jpg", bytes(11))
    assert read_bytes(str(tmp_path / "a.jpg")) == (None, "too_large")
    assert read_bytes(str(tmp_path / "b.jpg")) == (bytes(10), "")
    assert read_bytes("memory://large/a.jpg") == (None, "too_large")


def test_files_objects_and_urls_are_read_side_by_side(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    fsspec.filesystem("memory").pipe("/mixed/b.jpg", b"b")
    with serving({"c.jpg": lambda h: h.reply()}) as server:
        uris = (str(tmp_path / "a.jpg"), "memory://mixed/b.jpg", f"{server.url}/c.jpg", f"file://{tmp_path}/a.jpg")
        items = [Input(image_id="views", uri=uris[0], more_views=uris[1:]), Input(image_id="gone", uri="/gone.jpg")]
        with Reader(policy()) as reader:
            rows = list(reader.rows(items))
        (batch,) = input_batches(items, 10)
        batch = fetch(batch, policy())
    assert rows[0].contents == (b"a", b"b", IMAGE, b"a")
    assert (rows[1].contents, rows[1].problem) == ((None,), "fetch_failed")
    assert [batch[name][0] for name in ("bytes", "bytes_2", "bytes_3", "bytes_4")] == [b"a", b"b", IMAGE, b"a"]
    assert batch["problem"].tolist() == ["", "fetch_failed"]


def test_urls_are_fetched_as_the_policy_says():
    with serving({"c.jpg": lambda h: h.reply()}) as server:
        assert read_bytes(f"{server.url}/c.jpg") == (None, "blocked_address")
        with Reader(FetchPolicy(allow_private=True, ports=(server.port,))) as reader:
            assert reader.submit([f"{server.url}/c.jpg"]).result() == [(IMAGE, "")]
