"""Containers that are odd or damaged: what can be read is, and a row says that there may be more."""

import io
import tarfile
import zipfile

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.data.sources import SourceOptions, open_sources, tars, zips
from geo_ray.errors import InputError
from tests.data.source_files import add

BODY = b"\xff\xd8\xff" + b"0123456789" * 200


def rows_of(path, **options):
    sources = open_sources([str(path)], SourceOptions(**options))
    return [row for shard in sources.shards() for row in shard.rows()]


def ids_of(path, **options):
    return [row.image_id for row in rows_of(path, **options)]


def write_tar(path, names, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name in names:
            add(tar, name, BODY)
    return path


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        # WebDataset: the image of a sample, whatever lies beside it and in whatever order.
        (["1.depth.png", "1.jpg", "1.json", "2.cls", "2.webp"], ["1", "2"]),
        (["a/1.jpg", "a/1.seg.png", "b/1.jpg"], ["a/1", "b/1"]),
        # Ordinary tars: names with dots are no samples, and equal names with different suffixes are two images.
        (["2020.01.02 x.jpg", "2020.01.03 y.jpg"], ["2020.01.02 x", "2020.01.03 y"]),
        ([f"@1@2.{n}@.jpg" for n in range(30)], [f"@1@2.{n}@" for n in range(30)]),
        (["IMG_1.jpg", "IMG_1.png", "z.txt", "IMG_1.JPG"], ["IMG_1", "IMG_1~2", "IMG_1~3"]),
        (["./x/a.jpg", "._a.jpg", "x/.jpg"], ["x/a"]),
    ],
)
def test_which_members_of_a_tar_are_its_images(tmp_path, names, keys):
    assert ids_of(write_tar(tmp_path / "t.tar", names)) == [f"t.tar#{key}" for key in keys]


@pytest.mark.parametrize(("name", "mode"), [("t.tar.gz", "w:gz"), ("t.tgz", "w:gz"), ("t.tar.bz2", "w:bz2"),
                                            ("t.tar.xz", "w:xz"), ("unnamed", "w"), ("unnamed", "w:gz")])  # fmt: skip
def test_tars_are_known_by_their_content_and_may_be_compressed(tmp_path, name, mode):
    assert ids_of(write_tar(tmp_path / name, ["1.jpg", "2.jpg"], mode)) == [f"{name}#1", f"{name}#2"]


def test_links_out_of_a_tar_are_rows_with_a_problem_and_folders_are_none(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "link.jpg"), (tarfile.LNKTYPE, "hard.jpg"), (tarfile.DIRTYPE, "d.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        add(tar, "1.jpg", BODY)
    (shard,) = open_sources([str(tmp_path / "t.tar")]).shards()
    assert [(row.image_id, row.problem) for row in shard.rows()] == [
        ("t.tar#1", ""), ("t.tar#link", "fetch_failed"), ("t.tar#hard", "fetch_failed")
    ]  # fmt: skip


def damaged(row):
    return row.problem == "damaged_file" and row.contents == (None,)


@pytest.mark.parametrize("where", ["body", "header", "padding"])
def test_a_tar_that_ends_early_says_so(tmp_path, where):
    path = write_tar(tmp_path / "t.tar", ["1.jpg", "2.jpg", "3.jpg"])
    size = 512 + 512 * -(-len(BODY) // 512)
    cut = {"body": 2 * size + 1000, "header": 2 * size + 100, "padding": 3 * size - 5}[where]
    path.write_bytes(path.read_bytes()[:cut])
    *good, last = rows_of(path)
    assert [row.contents for row in good[:2]] == [(BODY,)] * 2
    assert damaged(last)
    assert last.image_id == "t.tar#(damaged)"


def test_a_tar_with_a_damaged_header_is_not_taken_for_its_end(tmp_path):
    path = write_tar(tmp_path / "t.tar", ["1.jpg", "2.jpg", "3.jpg"])
    content = bytearray(path.read_bytes())
    start = content.index(b"2.jpg")
    content[start : start + 100] = b"\x01" * 100
    path.write_bytes(content)
    rows = rows_of(path)
    assert [row.image_id for row in rows] == ["t.tar#1", "t.tar#(damaged)"]


def test_a_compressed_tar_that_ends_early_says_so(tmp_path):
    path = write_tar(tmp_path / "t.tar.gz", [f"{n}.jpg" for n in range(50)], "w:gz")
    path.write_bytes(path.read_bytes()[:-200])
    rows = rows_of(path)
    assert damaged(rows[-1])
    assert all(row.contents == (BODY,) for row in rows[:-1])


def write_zip(path, names, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, BODY)
    return path


def test_which_members_of_a_zip_are_its_images(tmp_path):
    path = write_zip(tmp_path / "z.zip", ["00/1.jpg", "00/x.txt", "__MACOSX/00/._1.jpg", "00/2.png"])
    assert ids_of(path) == ["z.zip#00/1.jpg", "z.zip#00/2.png"]


def test_an_image_of_a_zip_that_is_damaged_is_one_problem(tmp_path):
    path = write_zip(tmp_path / "z.zip", ["1.jpg", "2.jpg", "3.jpg"])
    content = bytearray(path.read_bytes())
    content[content.index(b"2.jpg") + 100] ^= 255  # its checksum is wrong now
    path.write_bytes(content)
    assert [row.problem for row in rows_of(path)] == ["", "damaged_file", ""]


def test_a_zip_that_ends_early_is_one_problem(tmp_path):
    path = write_zip(tmp_path / "z.zip", ["1.jpg", "2.jpg"])
    path.write_bytes(path.read_bytes()[:-30])
    (row,) = rows_of(path)
    assert damaged(row)


def test_images_that_are_too_large_are_not_unpacked(tmp_path, monkeypatch):
    for module in (tars, zips):
        monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    zipped = tmp_path / "bomb.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jpg", bytes(5_000_000))
        archive.writestr("2.jpg", BODY)
    tarred = tmp_path / "bomb.tar"
    with tarfile.open(tarred, "w") as tar:
        add(tar, "1.jpg", bytes(5_000_000))
        add(tar, "2.jpg", BODY)
    for path in (zipped, tarred):
        assert [(row.contents, row.problem) for row in rows_of(path)] == [((None,), "too_large"), ((BODY,), "")]


def test_a_zip_whose_sizes_lie_gives_no_more_than_it_says(tmp_path):
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jpg", bytes(3_000_000))
    content = path.read_bytes()
    size = (3_000_000).to_bytes(4, "little")
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    (row,) = rows_of(path)
    assert damaged(row)


def write_msgpack(path, records):
    path.write_bytes(b"".join(msgpack.packb(record) for record in records))
    return path


def test_msgpack_that_ends_early_says_so(tmp_path):
    path = write_msgpack(tmp_path / "s.msg", [{"image": BODY, "id": f"a/{n}.jpg"} for n in range(3)])
    path.write_bytes(path.read_bytes()[:-50])
    rows = rows_of(path)
    assert [row.image_id for row in rows] == ["s.msg#a/0.jpg", "s.msg#a/1.jpg", "s.msg#(damaged)"]
    assert damaged(rows[-1])


def test_msgpack_with_other_records_among_them(tmp_path):
    records = [{"id": b"\xff.jpg", "image": BODY}, {"id": "b"}, 7, {"image": BODY, "id": 12}, {"image": BODY, "id": 12}]
    rows = rows_of(write_msgpack(tmp_path / "s", records))
    assert [row.problem for row in rows] == ["", "damaged_file", "damaged_file", "", ""]
    assert len({row.image_id for row in rows}) == 5
    for row in rows:
        pa.array([row.image_id, *row.uris])


def test_msgpack_that_is_damaged_in_the_middle(tmp_path):
    path = tmp_path / "s.msg"
    path.write_bytes(msgpack.packb({"image": BODY, "id": "1"}) + b"\xc1" * 40)
    assert damaged(rows_of(path)[-1])


def write_parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_parquet_that_ends_early_is_one_problem(tmp_path):
    (tmp_path / "d").mkdir()
    write_parquet(tmp_path / "d" / "a.parquet", {"image": [BODY, BODY]})
    path = write_parquet(tmp_path / "d" / "b.parquet", {"image": [BODY, BODY]})
    path.write_bytes(path.read_bytes()[:-40])
    rows = rows_of(tmp_path / "d")
    assert [row.image_id for row in rows] == ["a.parquet#0", "a.parquet#1", "b.parquet#(damaged)"]
    assert damaged(rows[-1])


def test_parquet_with_a_damaged_page(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"image": [BODY] * 40}, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[10:60] = b"\xff" * 50
    path.write_bytes(content)
    assert [row.problem for row in rows_of(path)] == ["damaged_file"]


def test_rows_of_parquet_are_called_by_ids_that_are_different_and_else_by_number(tmp_path):
    path = tmp_path / "a.parquet"
    for ids, keys in (([7, 8, 9], "789"), ([7, 7, 9], "012"), ([7, None, 9], "012")):
        write_parquet(path, {"id": ids, "image": [BODY] * 3}, row_group_size=1)
        assert ids_of(path, rows_per_shard=1) == [f"a.parquet#{key}" for key in keys]
    with pytest.raises(InputError, match="'id' are not all there"):
        ids_of(path, id_column="id")
    write_parquet(path, {"id": [1, 1], "name": ["x", "y"], "image": [BODY] * 2})
    assert ids_of(path, id_column="name") == ["a.parquet#x", "a.parquet#y"]


def test_parquet_of_panoramas(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "pano": ["p", "q"],
        "image": pa.array([{"bytes": b"1", "path": None}, {"bytes": b"5", "path": None}], kind),
    }
    columns["image_2"] = pa.array([{"bytes": b"2", "path": None}, None], kind)
    columns["image_3"] = pa.array([{"bytes": b"3", "path": None}, None], kind)
    path = write_parquet(tmp_path / "a.parquet", columns)
    assert open_sources([str(path)]).num_views == 3
    rows = rows_of(path, id_column="pano")
    assert [(row.image_id, row.contents, row.problem) for row in rows] == [
        ("a.parquet#p", (b"1", b"2", b"3"), ""),
        ("a.parquet#q", (b"5",), ""),
    ]
    assert len(rows[0].uris) == 3


def test_which_column_of_parquet_has_the_images(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"features": [b"1"], "photo_jpeg": [BODY]})
    with pytest.raises(InputError, match=r"bytes in features, photo_jpeg; name the column .* image_column"):
        rows_of(path)
    assert rows_of(path, image_column="photo_jpeg")[0].contents == (BODY,)
    with pytest.raises(InputError, match="no column 'img'; it has features, photo_jpeg"):
        rows_of(path, image_column="img")
    alone = write_parquet(tmp_path / "b.parquet", {"id": [1], "jpeg_data": [BODY]})
    assert ids_of(alone) == ["b.parquet#1"]


def test_a_container_that_goes_away_is_no_bad_row(tmp_path):
    path = write_tar(tmp_path / "t.tar", ["1.jpg"])
    (shard,) = open_sources([str(path)]).shards()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(shard.rows())


def test_an_image_that_is_no_image_is_the_decoders_business(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        add(tar, "empty.jpg", b"")
    (tmp_path / "t.tar").write_bytes(file.getvalue())
    assert [(row.contents, row.problem) for row in rows_of(tmp_path / "t.tar")] == [((b"",), "")]
