"""Ids as paths: each its own, never outside the output folder, and nothing that is not the export's is changed."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.data.exports.folder import ExportFolder, file_name
from geo_ray.errors import InputError, OutputError

HOSTILE = [
    "../up.jpg", "a/../../up.jpg", "/etc/passwd", "//etc/passwd", "..", ".", "", "/", "a//b.jpg", "./a.jpg",
    "a/./b.jpg", "a/..", "..\\up.jpg", "C:\\up.jpg", "C:", "file:///etc/passwd", "s3://bucket/a.jpg", "https://h/a.jpg?x=../../b",
    "nul\0byte.jpg", "line\nbreak.jpg", "x.tar#../../a", "x.tar#a/b", "a#b.jpg", "%2E%2E/up.jpg", "%2e%2e/up.jpg",
    "...", "~/a.jpg", "x" * 300, "x/" * 900 + "a.jpg", "ü" * 200 + ".jpg", " ", "a ", "-rf", "*",
]  # fmt: skip


def walk(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "image_id", ["a.jpg", "2024/06/a b.jpg", "x.tar#key/1", "ü/東京.heic", "100%.jpg", "12:30.jpg", "a#b.jpg", ".hid"]
)
def test_plain_ids_are_their_own_paths(image_id):
    assert file_name(image_id) == image_id


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("../a.jpg", "%2E%2E/a.jpg"),
        ("/a/b.jpg", "%2Fa/b.jpg"),
        ("s3://bucket/a.jpg", "s3%3A/%2Fbucket/a.jpg"),
        ("a/", "a/%2F"),
        ("", "%2F"),
        ("..\\a", "..%5Ca"),
        ("a%41", "a%2541"),
    ],
)
def test_others_are_written_with_codes(image_id, name):
    assert file_name(image_id) == name


def test_all_stay_in_the_folder(tmp_path):
    folder = ExportFolder(str(tmp_path / "deep" / "er" / "out"), {})
    for image_id in HOSTILE:
        folder.write(image_id, image_id.encode(), ".xmp")
    written = walk(tmp_path / "deep" / "er" / "out") - {"geo-ray-export.json"}
    assert len(written) == len(set(HOSTILE))
    assert {f"deep/er/out/{name}" for name in written} == walk(tmp_path) - {"deep/er/out/geo-ray-export.json"}
    contents = {(tmp_path / "deep" / "er" / "out" / name).read_bytes() for name in written}
    assert contents == {image_id.encode() for image_id in HOSTILE}


PARTS = st.sampled_from(
    ["", ".", "..", "a", "%", "%2E", "%2F", "2E", ":", "a:", "\\", "\n", "~", "ü", "...", "x" * 250]
)


@settings(deadline=None)
@given(st.lists(st.lists(PARTS, max_size=5).map("/".join) | st.text(max_size=12), min_size=2, max_size=6, unique=True))
def test_different_ids_have_different_relative_paths(image_ids):
    image_ids = [text for text in image_ids if text.isascii() or text.encode("utf-8", "ignore").decode() == text]
    names = [file_name(image_id) for image_id in image_ids]
    assert len(set(names)) == len(image_ids)
    for name in names:
        assert not os.path.isabs(name)
        assert not {"", ".", ".."} & set(name.split("/"))
        assert max(len(part.encode()) for part in name.split("/")) <= 200


def test_cut_names_keep_their_suffix():
    assert file_name("x" * 300 + ".jpg").endswith(".jpg")
    assert file_name("x" * 300 + ".jpg") != file_name("x" * 301 + ".jpg")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    """It could be the one with the originals."""
    (tmp_path / "photo.jpg").write_bytes(b"original")
    with pytest.raises(OutputError, match="holds other files; name a new folder"):
        ExportFolder(str(tmp_path), {})
    assert walk(tmp_path) == {"photo.jpg"}
    with pytest.raises(OutputError, match="holds other files"):
        ExportFolder(str(tmp_path / "photo.jpg"), {})


def test_an_export_may_be_done_again_but_not_mixed_with_another(tmp_path):
    for content in (b"1", b"2"):
        ExportFolder(str(tmp_path / "out"), {"run": "a"}).write("x.jpg", content)
        assert (tmp_path / "out" / "x.jpg").read_bytes() == content
    with pytest.raises(OutputError, match=r'holds another export \({"run": "a"}\)'):
        ExportFolder(str(tmp_path / "out"), {"run": "b"})


def test_the_original_is_never_replaced(tmp_path):
    folder = ExportFolder(str(tmp_path), {})
    original = tmp_path / "a.jpg"
    original.write_bytes(b"original")
    for uri in (str(original), f"file://{original}"):
        with pytest.raises(OutputError, match=r"is the original of 'a\.jpg'"):
            folder.write("a.jpg", b"copy", original=uri)
    assert original.read_bytes() == b"original"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "photos").mkdir()
    folder = ExportFolder(str(tmp_path / "out"), {})
    (tmp_path / "out" / "2024").symlink_to(tmp_path / "photos")
    for image_id in ("2024/a.jpg", "2024/06/a.jpg"):
        with pytest.raises(OutputError, match="leads out of the output folder"):
            folder.write(image_id, b"", ".xmp")
    assert not list((tmp_path / "photos").iterdir())


def test_the_output_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    ExportFolder(str(tmp_path / "out"), {}).write("a/b.jpg", b"x")
    assert (tmp_path / "disk" / "a" / "b.jpg").read_bytes() == b"x"


def test_single_files_go_to_local_folders():
    with pytest.raises(InputError, match="written to a local folder, not to 's3://bucket/out'"):
        ExportFolder("s3://user:secret@bucket/out?key=1", {})
