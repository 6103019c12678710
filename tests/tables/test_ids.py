"""Ids: unique by how they are made, and slices that one more image does not move."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.data.sources import Input
from geo_ray.data.sources.reading import FilesShard
from geo_ray.data.sources.rows import slices
from geo_ray.tables.ids import Unique, container_id, is_image_name

names = st.text(st.sampled_from("ab/#%~2.é\udcff"), max_size=6)
ids = st.lists(st.text(string.ascii_lowercase + "/", min_size=1, max_size=4), unique=True, max_size=300)


@given(st.lists(st.tuples(names, names), unique=True, max_size=30))
def test_what_lies_in_containers_has_different_ids(pairs):
    made = [container_id(path, key) for path, key in pairs]
    assert len(set(made)) == len(pairs)


@given(st.lists(names, max_size=40))
def test_keys_of_a_container_become_different(keys):
    unique = Unique()
    made = [unique(key) for key in keys]
    assert len(set(made)) == len(keys)
    assert [new for new, key in zip(made, keys, strict=True) if keys.count(key) == 1 and "~" not in "".join(keys)] == [
        key for key in keys if keys.count(key) == 1 and "~" not in "".join(keys)
    ]


@settings(deadline=None)
@given(ids, st.integers(1, 20))
def test_slices_hold_each_image_once_in_order_and_none_is_too_large(image_ids, rows):
    cut = list(slices((Input(image_id=one, uri=one) for one in image_ids), rows))
    assert [item.image_id for some in cut for item in some] == image_ids
    assert all(1 <= len(some) <= 2 * rows for some in cut)


def test_slices_are_about_as_large_as_asked_for():
    inputs = [Input(image_id=f"{n:08d}.jpg", uri=f"/p/{n:08d}.jpg") for n in range(100_000)]
    cut = list(slices(inputs, 1000))
    assert 80 <= len(cut) <= 125
    assert min(map(len, cut[:-1])) >= 500


def test_one_more_image_changes_its_own_slice():
    inputs = [Input(image_id=f"{n:08d}.jpg", uri=f"/p/{n:08d}.jpg") for n in range(20_000)]

    def shard_ids(items):
        return [FilesShard(label="", inputs=some).shard_id for some in slices(items, 500)]

    before = shard_ids(inputs)
    for place in (0, 777, 10_000, 20_000):
        more = [*inputs[:place], Input(image_id=f"{place:08d}-b.jpg", uri="/p/b.jpg"), *inputs[place:]]
        assert len(set(before) - set(shard_ids(more))) <= 3
        assert len(set(shard_ids(more)) - set(before)) <= 3


@pytest.mark.parametrize(
    ("name", "is_image"),
    [("a.jpg", True), ("b/a.HEIC", True), (".jpg", False), ("b/.jpg", False), ("b/._a.jpg", False), ("jpg", False),
     ("a.jpg/b", False), ("a.b.webp", True), ("", False)],
)  # fmt: skip
def test_images_by_their_names(name, is_image):
    assert is_image_name(name) == is_image
