"""Ids of the same image, however two tables write them."""

import pyarrow as pa
import pytest

from geo_ray.tables.joining import join


@pytest.mark.parametrize(
    ("image_id", "other"),
    [
        ("5d/02/870.jpg", "5d_02_870"),
        ("5d_02_870.jpg", "5d/02/870"),
        ("shard_0.msg#5d/02/870.jpg", "5d_02_870.jpg"),
        ("00000.tar#000000012", "000000012"),
        ("s3://b/00000.tar#000000012", "000000012.jpg"),
        ("a%23b.zip#00/1.JPEG", "00/1.jpg"),
        ("train-00000-of-00002.parquet#7", "7"),
        ("IMG #1.jpg", "IMG #1"),
        ("cafe\u0301.heic", "caf\u00e9.heic"),
        ("cafe\u0301.heic", "caf\u00e9"),
        ("version1.5", "version1.5.jpg"),
        ("a.jfif", "a"),
        ("a.HIF", "a.jpe"),
        ("x/y.png", "x\\y.png"),
        ("folder/deep/a.jpg", "a"),
    ],
)
def test_one_image_under_two_names(image_id, other):
    for ours, theirs in ((image_id, other), (other, image_id)):
        joined, ambiguous = join(pa.array([ours, "unlike"]), pa.array(["other", theirs]))
        assert (joined.rows.tolist(), joined.other_rows.tolist(), ambiguous) == ([0], [1], "")


def test_all_are_matched_where_some_would_be_by_a_stricter_way():
    ids = pa.array(["a.tar#one", "two", "a.tar#nai\u0308ve"])
    joined, _ = join(ids, pa.array(["na\u00efve", "two", "one"]))
    assert joined.other_rows.tolist() == [2, 1, 0]


def test_what_could_be_two_images_is_matched_with_none():
    joined, ambiguous = join(pa.array(["a.tar#1", "b.tar#1"]), pa.array(["1", "2"]))
    assert joined is None
    assert "'1' stand for several images" in ambiguous
