"""What is taken for an image whatever it is called, and what lies among images and is none of ours."""

import io
import struct
import tarfile
import zipfile
import zlib

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geo_ray.data.record.ledger import Ledger, RunKey
from geo_ray.data.sources import list_inputs, open_sources
from geo_ray.data.sources.left_out import left_out_text
from geo_ray.errors import InputError
from tests.crops import jpeg_crops

(JPEG,) = jpeg_crops(1)


def ids_of(path, **options):
    """The ids of the images behind a path, and what was left out by then."""
    sources = open_sources([str(path)], **options)
    shards = list(sources.shards())
    ids = [row.image_id for shard in shards for row in shard.rows()]
    return ids, sources.left_out, shards


def save(folder, *names, content=JPEG):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def as_format(kind):
    with io.BytesIO() as file:
        Image.new("RGB", (8, 8)).save(file, kind)
        return file.getvalue()


def test_images_are_known_by_how_they_begin_where_their_names_say_nothing(tmp_path):
    names = ["a.jpg", "b.jfif", "c.JPE", "d", "web.jpg?w=200", "wget.jpg.1", "e.jpg_large", "f.dat"]
    save(tmp_path, *names)
    for name, kind in (("g.x", "PNG"), ("h.y", "WEBP"), ("i.z", "GIF"), ("j.bin", "BMP"), ("k.tmp", "TIFF")):
        save(tmp_path, name, content=as_format(kind))
    save(tmp_path, "notes", "notes.abc", content=b"text")
    save(tmp_path, "raw.dng", content=as_format("TIFF"))
    ids, left_out, _ = ids_of(tmp_path)
    assert sorted(ids) == sorted([*names, "g.x", "h.y", "i.z", "j.bin", "k.tmp"])
    assert left_out == {"without a suffix that is known": 1, ".abc": 1, ".dng": 1}
    assert [item.image_id for item in list_inputs([str(tmp_path)])] == sorted(ids)


@pytest.mark.parametrize(
    "folder",
    ["@eaDir/a.jpg", "#recycle", "$RECYCLE.BIN/S-1-5", ".Trash-1000/files", ".thumbnails/large", ".git/lfs", "__MACOSX",
     ".AppleDouble", "System Volume Information", ".@__thumb", "lost+found", "Lightroom Previews.lrdata/0"],
)  # fmt: skip
def test_system_folders_are_left_out_and_counted_everywhere(tmp_path, folder):
    save(tmp_path / "in", "a.jpg", "sub/b.jpg", f"{folder}/c.jpg", f"sub/{folder}/d.jpg", "sub/._b.jpg")
    names = sorted(path.relative_to(tmp_path / "in") for path in (tmp_path / "in").rglob("*") if path.is_file())
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive, tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in names:
            archive.write(tmp_path / "in" / name, name)
            tar.add(tmp_path / "in" / name, name)
    ids, left_out, _ = ids_of(tmp_path / "in")
    assert (ids, left_out) == (["a.jpg", "sub/b.jpg"], {"hidden or in system folders": 3})
    ids, left_out, _ = ids_of(tmp_path / "t.zip")
    assert (ids, left_out) == (["t.zip#a.jpg", "t.zip#sub/b.jpg"], {"hidden or in system folders": 3})
    ids, _, (shard,) = ids_of(tmp_path / "t.tar")
    assert (ids, shard.left_out) == (["t.tar#a", "t.tar#sub/b"], {"hidden or in system folders": 3})


def test_a_system_folder_that_is_named_outright_is_read(tmp_path):
    save(tmp_path / ".thumbnails", "a.jpg")
    assert ids_of(tmp_path / ".thumbnails")[0] == ["a.jpg"]


def test_what_runs_wrote_below_their_input_is_left_out(tmp_path):
    save(tmp_path, "a.jpg", "b.jpg")
    ledger = Ledger(str(tmp_path / "out"))
    ledger.claim(RunKey(bundle_fingerprint="f", top_k=None, inputs=()), resume=False)
    save(tmp_path / "out", "parts/x.parquet", "predictions/y.parquet", "report.html", content=b"PAR1")
    save(tmp_path / "tagged", "a.jpg", "geo-ray-export.json")
    save(tmp_path / "run", "run.json", "c.jpg")
    ids, left_out, _ = ids_of(tmp_path)
    assert ids == ["a.jpg", "b.jpg", "run/c.jpg"]
    assert left_out["written by geo-ray"] == 6
    assert ids_of(tmp_path / "tagged")[0] == ["a.jpg"]


def test_members_of_a_tar_are_counted_and_links_are_rows(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in (("a.jpg", JPEG), ("odd", JPEG), ("c.json", b"{}"), (f"{'long/' * 40}d.jpg", JPEG)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for kind, name, target in (
            (tarfile.LNKTYPE, "album/again.jpg", "a.jpg"), (tarfile.SYMTYPE, "album/also.jpg", "../a.jpg"),
            (tarfile.SYMTYPE, "album/twice.jpg", "also.jpg"), (tarfile.SYMTYPE, "gone.jpg", "nothing.jpg"),
            (tarfile.SYMTYPE, "round.jpg", "round.jpg"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    (shard,) = open_sources([str(tmp_path / "t.tar")]).shards()
    found = {row.image_id.partition("#")[2]: (row.contents[0], row.problem) for row in shard.rows()}
    assert found == {
        "a": (JPEG, ""), "odd": (JPEG, ""), f"{'long/' * 40}d": (JPEG, ""), "album/again": (JPEG, ""),
        "album/also": (JPEG, ""), "album/twice": (JPEG, ""), "gone": (None, "fetch_failed"),
        "round": (None, "fetch_failed"),
    }  # fmt: skip
    assert shard.left_out == {"table": 1}


class Unflagged(zipfile.ZipInfo):
    """A member whose name is UTF-8 without the flag that says so, as macOS writes it."""

    def _encodeFilenameFlags(self):
        return self.filename.encode(), 0


def test_names_in_zips(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for name in ("éé.jpg", "a.jfif", "plain.jpg"):
            archive.writestr(Unflagged(name), JPEG)
        windows = zipfile.ZipInfo("x")
        windows.filename = "sub\\b.jpg"
        archive.writestr(windows, JPEG)
        named = Unflagged("caf_.jpg")
        utf8 = "café.jpg".encode()
        named.extra = struct.pack("<HHBI", 0x7075, 5 + len(utf8), 1, zlib.crc32(b"caf_.jpg")) + utf8
        archive.writestr(named, JPEG)
        archive.writestr("notes.txt", b"text")
    ids, left_out, _ = ids_of(tmp_path / "t.zip")
    assert ids == [f"t.zip#{name}" for name in ("éé.jpg", "a.jfif", "plain.jpg", "sub/b.jpg", "café.jpg")]
    assert left_out == {".txt": 1}


def test_containers_that_hold_no_images_are_no_input(tmp_path):
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "t.parquet")
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("notes.txt", b"text")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"))
    for name in ("t.parquet", "t.zip", "t.tar"):
        with pytest.raises(InputError, match=rf"no images in .*{name}"):
            open_sources([str(tmp_path / name)])
    save(tmp_path, "a.jpg")
    assert open_sources([str(tmp_path / "t.zip"), str(tmp_path / "a.jpg")])


def test_containers_are_known_by_what_they_hold(tmp_path):
    v7 = tarfile.TarInfo("a.jpg")
    v7.size = len(JPEG)
    header = bytearray(v7.tobuf(tarfile.USTAR_FORMAT))
    header[257:512] = bytes(255)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    (tmp_path / "old.data").write_bytes(bytes(header) + JPEG.ljust(-(-len(JPEG) // 512) * 512, b"\0") + bytes(1024))
    (tmp_path / "odd.bin").write_bytes(msgpack.packb({"latitude": 1.0, "longitude": 2.0, "id": "x", "image": JPEG}))
    (tmp_path / "late.msg").write_bytes(msgpack.packb({"note": "n" * 9000, "id": "x", "image": JPEG}))
    assert [ids_of(tmp_path / name)[0] for name in ("old.data", "odd.bin", "late.msg")] == [
        ["old.data#a"], ["odd.bin#x"], ["late.msg#x"]
    ]  # fmt: skip


def test_names_that_are_no_utf8_can_be_found_again(tmp_path):
    name = b"caf\xe9 %.jpg"
    (tmp_path / "in").mkdir()
    with open(bytes(tmp_path / "in") + b"/" + name, "wb") as file:
        file.write(JPEG)
    (shard,) = open_sources([str(tmp_path / "in")]).shards()
    (row,) = shard.rows()
    assert row.contents == (JPEG,)
    assert row.uris == (f"file://{tmp_path}/in/caf%E9%20%25.jpg",)
    assert row.image_id.encode() == b"caf\\udce9 %.jpg"
    (again,) = open_sources([row.uris[0]]).shards()
    assert next(again.rows()).contents == (JPEG,)


@pytest.mark.parametrize(
    "name", ["a[1].jpg", "b*.jpg", "c{1..3}.jpg", "d?.jpg", "e\n.jpg", "f#g.jpg", "h%20.jpg", "i::j.jpg"]
)
def test_a_path_that_is_there_is_no_pattern(tmp_path, name):
    save(tmp_path, name, "other.jpg")
    assert ids_of(tmp_path / name)[0] == [name]


def test_what_was_left_out_in_words():
    assert left_out_text({".txt": 2, "table": 1200, ".abc": 0}) == "1,200 table, 2 .txt"
