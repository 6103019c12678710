import fsspec
import pytest

from geo_ray.data.sources import Input, fetch, input_blocks, list_inputs, read_bytes
from geo_ray.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    for name in ("a/1.jpg", "a/deep/2.PNG", "a/notes.txt", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "a" / "album.jpg").mkdir()
    return tmp_path


def ids(inputs):
    return [item.image_id for item in inputs]


def test_a_folder_gives_its_images_and_folders_named_like_images(folder):
    assert ids(list_inputs([str(folder / "a")])) == ["1.jpg", "album.jpg", "deep/2.PNG"]


def test_a_file_that_is_named_needs_no_suffix(folder):
    assert ids(list_inputs([str(folder / "a" / "notes.txt")])) == ["notes.txt"]


def test_a_glob_pattern(folder):
    assert [i.uri for i in list_inputs([str(folder / "**" / "*.jpg")])] == [
        str(folder / name) for name in ("a/1.jpg", "a/album.jpg", "b.jpg")
    ]


def test_an_input_named_twice_is_one_row(folder):
    assert len(list_inputs([str(folder), str(folder / "a" / "1.jpg")])) == 4


def test_equal_ids_become_uris(folder):
    (folder / "c").mkdir()
    (folder / "c" / "1.jpg").write_bytes(b"c")
    inputs = list_inputs([str(folder / "a"), str(folder / "c")])
    assert len(set(ids(inputs))) == 4
    assert all(item.image_id == item.uri for item in inputs)


@pytest.mark.parametrize(
    ("text", "message"), [("nowhere", "does not exist"), ("empty", "no images"), ("*.xyz", "no images")]
)
def test_nothing_to_do_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        list_inputs([text])
    assert repr(text) in str(caught.value)


def test_a_remote_folder(folder):
    fs = fsspec.filesystem("memory")
    fs.pipe({"/photos/x.jpg": b"x", "/photos/sub/y.jpg": b"y", "/photos/z.txt": b"z"})
    inputs = list_inputs(["memory://photos"])
    assert ids(inputs) == ["sub/y.jpg", "x.jpg"]
    assert [read_bytes(item.uri) for item in inputs] == [(b"y", ""), (b"x", "")]


def test_an_unknown_protocol_is_an_input_error():
    with pytest.raises(InputError, match="nosuch"):
        list_inputs(["nosuch://bucket/x"])


def test_fetch_reads_or_says_why(folder):
    uris = [str(folder / "b.jpg"), str(folder / "a" / "album.jpg"), str(folder / "gone.jpg")]
    blocks = input_blocks([Input(image_id=str(n), uri=uri) for n, uri in enumerate(uris)], rows_per_block=2)
    assert [len(block) for block in blocks] == [2, 1]
    batch = {name: blocks[0][name].to_numpy(zero_copy_only=False) for name in ("image_id", "uri")}
    assert fetch(batch)["bytes"].tolist() == [b"b.jpg", None]
    assert [read_bytes(uri)[1] for uri in uris] == ["", "not_a_file", "fetch_failed"]
