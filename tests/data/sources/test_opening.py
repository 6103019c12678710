"""What inputs are taken for, the ids they get together, and inputs that can't be told or have nothing."""

import io
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geo_ray.data.sources import SourceOptions, list_inputs, open_sources
from geo_ray.data.sources.kinds import kind_of_bytes
from geo_ray.data.sources.listing import expand_braces
from geo_ray.errors import InputError
from tests.data.source_files import save, small_images, write_all


def ids_of(*inputs, **options):
    sources = open_sources([str(one) for one in inputs], SourceOptions(**options))
    return [row.image_id for shard in sources.shards() for row in shard.rows()]


def save_all(folder, *names):
    for name in names:
        save(folder / name, name.encode())
    return folder


def test_one_folder_names_its_images_by_their_paths(tmp_path):
    save_all(tmp_path, "b.jpg", "a/1.HEIC", "a/notes.txt")
    assert ids_of(tmp_path) == ["a/1.HEIC", "b.jpg"]
    assert ids_of(f"{tmp_path}/**/*.jpg") == ["b.jpg"]


def test_several_inputs_name_their_images_by_where_they_lie(tmp_path):
    save_all(tmp_path, "a/1.jpg", "b/1.jpg")
    assert ids_of(tmp_path / "a", tmp_path / "b") == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/b/1.jpg"]


def test_files_that_are_named_outright_keep_their_names_while_these_are_different(tmp_path):
    save_all(tmp_path, "a/1.jpg", "b/2.jpg", "b/1.jpg")
    assert ids_of(tmp_path / "a/1.jpg", tmp_path / "b/2.jpg") == ["1.jpg", "2.jpg"]
    assert ids_of(tmp_path / "a/1.jpg", tmp_path / "b/1.jpg") == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/b/1.jpg"]
    assert len(list(open_sources([f"{tmp_path}/a/1.jpg", f"{tmp_path}/b/2.jpg"]).shards())) == 1


def test_an_image_that_several_inputs_name_is_one_row(tmp_path, monkeypatch):
    save_all(tmp_path, "a/1.jpg", "a/b/2.jpg", "c/3.jpg")
    everything = [f"{tmp_path}/{name}" for name in ("a/1.jpg", "a/b/2.jpg", "c/3.jpg")]
    assert ids_of(tmp_path, tmp_path / "a", tmp_path / "a" / "b") == everything
    assert ids_of(tmp_path / "a" / "1.jpg", f"{tmp_path}/**/*.jpg") == everything
    assert ids_of(f"{tmp_path}/a/*.jpg", f"{tmp_path}/a/1*") == everything[:1]
    monkeypatch.chdir(tmp_path)
    assert ids_of("a", tmp_path / "a") == everything[:2]


def test_a_container_that_several_inputs_name_is_read_once(tmp_path):
    write_all(tmp_path, small_images(6))
    tars = tmp_path / "tars"
    assert len(ids_of(tars, tars / "0001.tar")) == 6
    assert len(ids_of(tars, tmp_path / "zips", tmp_path / "tables" / "a.csv")) == 18


def test_braces_are_written_out():
    assert expand_braces("s3://b/{008..011}.tar") == [f"s3://b/{n:03d}.tar" for n in (8, 9, 10, 11)]
    assert expand_braces("{a,b}/{1..2}.tar") == ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]
    assert expand_braces("a{b}.jpg") == ["a{b}.jpg"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF", "HEIF"])
def test_images_are_known_by_their_first_bytes(form, tmp_path):
    file, image = io.BytesIO(), Image.new("RGB", (70, 70))
    if form == "HEIF":
        pytest.importorskip("pillow_heif").from_pillow(image).save(file)
    else:
        image.save(file, form)
    assert kind_of_bytes(file.getvalue()) == "image"
    save(tmp_path / "photo", file.getvalue())
    assert ids_of(tmp_path / "photo") == ["photo"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", ""), (b"\x00\x01\x02\x03" * 50, ""), (b"path\na.jpg\n", "table"), ("path\né.jpg".encode()[:-5], "table"),
        (b'{"path": "a.jpg"}', "table"), (b"\xef\xbb\xbfpath\n", "table"), (b"PAR1....", "parquet"),
        (b"\x82\xa5image\xc4\x01x\xa2id\xa11", "msgpack"), (b"\x82\xa5other\x01\xa1b\x02", ""),
        (b"PK\x03\x04....", "zip"),
    ],
)  # fmt: skip
def test_other_files_by_their_first_bytes(content, kind):
    assert kind_of_bytes(content) == kind


def test_a_list_of_another_name_is_known_by_its_content(tmp_path):
    save_all(tmp_path, "1.jpg", "sub/2.jpg")
    save(tmp_path / "list", b"1.jpg\nsub/2.jpg\n")
    assert ids_of(tmp_path / "list") == ["1.jpg", "sub/2.jpg"]


def test_a_few_files_of_another_kind_are_left_out_and_counted(tmp_path):
    save_all(tmp_path, *(f"{n:03d}.jpg" for n in range(150)), "old.zip", "places.csv", "readme.md")
    sources = open_sources([str(tmp_path)])
    assert sum(shard.num_rows for shard in sources.shards()) == 150
    assert sources.left_out == {"zip": 1, "table": 1, ".md": 1}


def test_files_without_a_suffix_that_a_pattern_matches(tmp_path):
    save_all(tmp_path, "a1", "a2", "b1")
    assert ids_of(f"{tmp_path}/a*") == ["a1", "a2"]


def test_parquet_files_of_a_folder_may_name_images(tmp_path):
    save_all(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "list").mkdir()
    for number in (1, 2):
        pq.write_table(pa.table({"id": [number], "path": [f"../{number}.jpg"]}), tmp_path / f"list/{number}.parquet")
    assert ids_of(tmp_path / "list", allowed_root=str(tmp_path)) == ["1", "2"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no images"),
        (("a.txt", "b.doc"), "no images"),
        (("a.csv", "b.csv"), "it has 2 tables; name the one that lists the images"),
        (("a.jpg", "b.zip"), r"1 image and 1 zip files; name one kind with a pattern, such as .*/\*\*/\*\.jpg"),
        (("a.tar", "b.zip", "c.zip"), r"1 tar and 2 zip files; .*/\*\*/\*\.zip"),
    ],
)
def test_a_folder_that_can_not_be_told_is_refused(tmp_path, names, message):
    folder = save_all(tmp_path / "inputs", *names)
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=message) as caught:
        open_sources([str(folder)])
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone", "does not exist"),
        ("*.xyz", "no images"),
        ("noise", "neither an image nor a container or table"),
        ("empty", "neither an image nor a container or table"),
        ("prose", "no column for the image"),
        ("header.csv", "no images"),
        ("nosuch://bucket/x", "can't be listed"),
    ],
)
def test_an_input_that_holds_nothing_is_refused(tmp_path, monkeypatch, text, message):
    save(tmp_path / "noise", bytes(range(256)))
    save(tmp_path / "empty", b"")
    save(tmp_path / "prose", b"Dear reader,\nthis is no table.\n")
    save(tmp_path / "header.csv", b"id,path\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        open_sources([text])
    assert text in str(caught.value)


def test_a_folder_that_may_not_be_listed_is_an_error_and_not_empty(tmp_path, monkeypatch):
    save_all(tmp_path, "a.jpg", "locked/b.jpg")
    scandir = os.scandir

    def refusing(path):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"can't be listed .*Permission denied"):
        list_inputs([str(tmp_path)])


def test_names_that_are_not_utf8_can_be_read_and_written(tmp_path):
    save_all(tmp_path, "a.jpg")
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb") as file:
        file.write(b"odd")
    rows = [row for shard in open_sources([str(tmp_path)]).shards() for row in shard.rows()]
    assert [(row.image_id, row.contents) for row in rows] == [("a.jpg", (b"a.jpg",)), ("\\udcff.jpg", (b"odd",))]
    pa.array([row.image_id for row in rows] + [row.uris[0] for row in rows])


def test_secrets_in_addresses_are_not_shown():
    with pytest.raises(InputError, match="can't be listed") as caught:
        open_sources(["nosuch://me:secret@bucket/x?token=secret"])
    assert "secret" not in str(caught.value)


def test_links_to_images_are_followed_and_links_to_folders_are_not(tmp_path):
    save_all(tmp_path, "elsewhere/1.jpg", "photos/2.jpg")
    (tmp_path / "photos" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos")
    assert ids_of(tmp_path / "photos") == ["2.jpg", "link.jpg"]
