"""Names of blocks, and which shards are done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_ray.data.record.blocks import Block, Done, block_of

A, B = "0123456789abcdef0123", "f" * 20


def block(number, last=False, shard_id=A):
    return Block(shard_id, number, last)


@given(st.text("0123456789abcdef", min_size=20, max_size=20), st.integers(0, 999_999), st.booleans())
def test_a_name_says_its_block(shard_id, number, last):
    assert block_of(Block(shard_id, number, last).name) == Block(shard_id, number, last)


@pytest.mark.parametrize(
    "name",
    ["", "notes", f"{A}-00000", f"{A}-0000000", f"{A[1:]}-000000", f"{A.upper()}-000000", f"{A}-000000-las",
     f"{A}-000000-last ", f" {A}-000000", f"{A}-000000\n"],
)  # fmt: skip
def test_other_names_say_none(name):
    assert block_of(name) is None


@pytest.mark.parametrize(
    ("blocks", "whole"),
    [
        ([], False),
        ([block(0)], False),
        ([block(0, last=True)], True),
        ([block(1, last=True)], False),
        ([block(0), block(1)], False),
        ([block(1, last=True), block(0)], True),
        ([block(0), block(2, last=True)], False),
        ([block(0), block(1), block(1), block(2, last=True)], True),
        ([block(0), block(1, last=True, shard_id=B)], False),
    ],
)
def test_a_shard_is_whole_from_its_first_block_to_its_last(blocks, whole):
    assert Done(blocks).whole(A) is whole


def test_what_is_done_by_shard():
    done = Done([block(2), block(0), block(0), block(5, last=True, shard_id=B)])
    assert len(done) == 3
    assert done.numbers(A) == {0, 2}
    assert done.blocks(A) == [block(0), block(2)]
    assert done.blocks(B) == [block(5, last=True, shard_id=B)]


def test_a_shard_that_nobody_has_seen():
    done = Done([])
    assert (len(done), done.numbers(A), done.blocks(A), done.whole(A)) == (0, frozenset(), [], False)
    assert len(done) == 0
