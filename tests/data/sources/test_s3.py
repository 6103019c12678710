"""Sources on S3, as moto's server has it."""

import pytest
import s3fs

from geo_ray.data.sources import list_inputs, open_sources, read_bytes
from geo_ray.data.sources.listing import match
from geo_ray.errors import InputError
from tests.data.s3_server import s3_server
from tests.data.source_files import small_images, write_all

NUM_IMAGES = 30


@pytest.fixture(scope="module")
def s3():
    with s3_server() as client:
        yield client


@pytest.fixture(scope="module")
def images():
    return small_images(NUM_IMAGES)


@pytest.fixture(scope="module")
def written(s3, images, tmp_path_factory):
    """All sources under s3://photos/all, as they are on disk; of the inputs, the folder is replaced by that."""
    folder = tmp_path_factory.mktemp("sources")
    found = write_all(folder, images)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        s3.put_object(Bucket="photos", Key=f"all/{path.relative_to(folder).as_posix()}", Body=path.read_bytes())
    return folder, found


def remote(text, folder):
    return text.replace(str(folder), "s3://photos/all")


@pytest.mark.parametrize(
    "name",
    ["folder", "pattern", "webdataset", "webdataset braces", "img2dataset", "img2dataset parquet", "parquet binary",
     "zip", "msgpack", "a.csv", "a.tsv.gz", "a.jsonl", "a.parquet"],
)  # fmt: skip
def test_the_same_images_come_from_s3(written, images, name):
    folder, found = written
    source = found[name]
    rows = [row for shard in open_sources([remote(t, folder) for t in source.inputs]).shards() for row in shard.rows()]
    assert {row.image_id: row.contents for row in rows} == {
        remote(image_id, folder): (images.get(image_name),) for image_id, image_name in source.names.items()
    }
    assert len(rows) == len(source.names)
    if name == "folder":
        assert all(row.uris[0] == f"s3://photos/all/folder/{row.image_id}" for row in rows)


def test_a_listing_goes_on_by_pages(s3, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    for number in range(40):
        s3.put_object(Bucket="photos", Key=f"many/{number % 2}/{number:03d}.jpg", Body=b"x")
    assert s3.list_objects_v2(Bucket="photos", Prefix="many/")["IsTruncated"]
    names = [f"{half}/{number:03d}.jpg" for half in (0, 1) for number in range(half, 40, 2)]
    shards = open_sources(["s3://photos/many"]).shards()
    assert [item.image_id for shard in shards for item in shard.inputs] == names
    assert [item.image_id for item in list_inputs(["s3://photos/many/1/0[0-2]*.jpg"])] == [
        f"{number:03d}.jpg" for number in range(1, 30, 2)
    ]
    assert [item.uri for item in list_inputs(["s3://photos/many/0/008.jpg"])] == ["s3://photos/many/0/008.jpg"]


def test_a_pattern_without_folders_lists_none(s3, monkeypatch):
    for key in ("flat/a.jpg", *(f"flat/deep/{number}.jpg" for number in range(20)), "flat/z.jpg"):
        s3.put_object(Bucket="photos", Key=key, Body=b"x")
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "5")
    pages, call_s3 = [], s3fs.S3FileSystem.call_s3
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", lambda *args, **keys: pages.append(1) or call_s3(*args, **keys))
    assert [found.path for found in match("s3://photos/flat/*.jpg")] == ["a.jpg", "z.jpg"]
    assert len(pages) == 1
    assert len(list(match("s3://photos/flat/**/*.jpg"))) == 22
    assert len(pages) == 1 + 5


def test_objects_that_are_odd(s3):
    s3.put_object(Bucket="photos", Key="odd/", Body=b"")
    s3.put_object(Bucket="photos", Key="odd/empty.jpg", Body=b"")
    s3.put_object(Bucket="photos", Key="odd/é #%41.jpg", Body=b"letters")
    rows = [row for shard in open_sources(["s3://photos/odd/"]).shards() for row in shard.rows()]
    assert {row.image_id: row.contents[0] for row in rows} == {"empty.jpg": b"", "é #%41.jpg": b"letters"}
    assert read_bytes("s3://photos/odd/gone.jpg") == (None, "fetch_failed")


@pytest.mark.parametrize(
    ("text", "message"), [("s3://photos/nothing", "no images"), ("s3://no-bucket/x", "bucket does not exist")]
)
def test_what_is_not_there_is_named(s3, text, message):
    with pytest.raises(InputError, match=message) as caught:
        open_sources([text])
    assert text in str(caught.value)


ODD_KEYS = ["2024-05-01T12::30.jpg", "br[2024]/a.jpg", "what?.jpg", "a#b.jpg", "100%.jpg", "a*.jpg", "{1..3}.jpg",
            "two  spaces.jpg", "naïve.jpg", "deep//er.jpg", "s3::x.jpg"]  # fmt: skip


def test_listed_keys_are_taken_as_they_are(s3):
    for key in ODD_KEYS:
        s3.put_object(Bucket="photos", Key=f"strange/{key}", Body=key.encode())
    rows = [row for shard in open_sources(["s3://photos/strange/"]).shards() for row in shard.rows()]
    assert {row.image_id: row.contents[0] for row in rows} == {key: key.encode() for key in ODD_KEYS}
    assert {row.uris[0] for row in rows} == {f"s3://photos/strange/{key}" for key in ODD_KEYS}
    assert [read_bytes(row.uris[0])[0] for row in rows] == [row.contents[0] for row in rows]


def test_a_prefix_with_brackets_is_no_pattern_where_it_is_there(s3):
    for number in range(3):
        s3.put_object(Bucket="photos", Key=f"of[2024]/{number}.jpg", Body=b"x")
        s3.put_object(Bucket="photos", Key=f"of2/{number}.jpg", Body=b"y")
    found = {
        text: [row.contents[0] for shard in open_sources([text]).shards() for row in shard.rows()]
        for text in ("s3://photos/of[2024]/", "s3://photos/of[2024]/1.jpg", "s3://photos/of[12]/*.jpg")
    }
    assert list(found.values()) == [[b"x"] * 3, [b"x"], [b"y"] * 3]
