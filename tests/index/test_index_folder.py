"""The files of an index."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from geo_ray.cells.partition_file import read_partition
from geo_ray.errors import BundleError
from geo_ray.index.index_folder import (
    check_index,
    concat,
    empty_cells,
    read_index,
    read_info,
    take_cells,
    write_index,
    write_parts,
)
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.models.bundle import CELLS, open_bundle
from tests.index.example import NUM_CELLS, assert_same_index, example_index

ARRAYS = ("cell_offsets", "prototype_codes", "prototype_scales", "prototype_squared", "prototype_latlon",
          "member_offsets", "member_codes", "member_scales", "member_squared", "member_latlon", "member_ids",
          "member_hubness")  # fmt: skip


def full_index(**changes):
    """An index that has every optional array."""
    index = example_index()
    hubness = np.linspace(0, 1, len(index.member_latlon), dtype=np.float32)
    return dataclasses.replace(index, member_hubness=hubness, encoder_fingerprint="abc", **changes)


def as_format_1(folder: Path):
    """What the first version wrote: int8 and l2, unsaid, and no lengths."""
    sizes = json.loads((folder / "index.json").read_text())
    kept = ("num_cells", "num_prototypes", "num_members", "num_features")
    (folder / "index.json").write_text(json.dumps({"format": 1} | {name: sizes[name] for name in kept}))
    for name in ("prototype_squared", "member_squared", "member_ids"):
        (folder / f"{name}.npy").unlink()


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_written_and_read_again(tmp_path, dtype, metric):
    index = example_index(dtype=dtype, metric=metric)
    info = write_index(index, tmp_path)
    again = read_index(tmp_path)
    assert_same_index(again, index)
    assert (info.dtype, info.metric) == (dtype, metric)
    assert read_info(tmp_path) == info


def test_optional_arrays_are_written_and_read_again(tmp_path):
    index = full_index()
    write_index(index, tmp_path)
    assert_same_index(read_index(tmp_path), index)
    assert read_index(tmp_path).encoder_fingerprint == "abc"


def test_opening_reads_no_features(tmp_path):
    write_index(example_index(), tmp_path)
    index = read_index(tmp_path)
    for features in (index.prototype_features, index.member_features):
        assert isinstance(features.codes.base, np.memmap)


def test_format_1_is_read(tmp_path):
    index = example_index()
    write_index(index, tmp_path)
    as_format_1(tmp_path)
    again = read_index(tmp_path)
    assert_same_index(again, dataclasses.replace(index, member_ids=None))
    assert check_index(tmp_path, encoder_fingerprint="any").format == 1


def test_the_bundle_that_ships_opens():
    folder = open_bundle("earth-tiny").path("index")
    index = read_index(folder)
    assert index.num_cells == len(read_partition(open_bundle("earth-tiny").path(CELLS)))
    assert index.member_features.codes.shape[1] == open_bundle("earth-tiny").num_features
    assert (check_index(folder).metric, index.member_features.dtype) == ("l2", "int8")


def test_an_empty_index_is_written_and_read_again(tmp_path):
    nothing = build_index(np.zeros((0, 8), np.float32), np.zeros((0, 2)), np.zeros(0, np.int64), 4, Clustering())
    write_index(nothing, tmp_path)
    assert len(read_index(tmp_path).member_latlon) == 0


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "short", "type"])
def test_a_damaged_array_is_named(tmp_path, name, damage):
    write_index(full_index(), tmp_path)
    path = tmp_path / f"{name}.npy"
    content, array = path.read_bytes(), np.load(path)
    path.unlink()
    if damage == "short":
        np.save(path, array[:-1])
    elif damage == "type":
        np.save(path, array.astype(np.float64))
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-3])
    with pytest.raises(BundleError, match=f"{name}.npy"):
        read_index(tmp_path)


@pytest.mark.parametrize("name", ["cell_offsets", "member_offsets"])
@pytest.mark.parametrize("place", [0, 3, -1])
def test_offsets_that_do_not_rise_are_named(tmp_path, name, place):
    write_index(example_index(), tmp_path)
    offsets = np.load(tmp_path / f"{name}.npy")
    offsets[place] += 1000
    np.save(tmp_path / f"{name}.npy", offsets)
    with pytest.raises(BundleError, match=f"{name}.npy: offsets must rise"):
        read_index(tmp_path)


@pytest.mark.parametrize("name", ["member_scales", "member_squared", "prototype_squared", "member_hubness"])
def test_values_that_are_not_finite_are_named(tmp_path, name):
    write_index(full_index(), tmp_path)
    values = np.load(tmp_path / f"{name}.npy")
    values[2] = np.nan
    np.save(tmp_path / f"{name}.npy", values)
    with pytest.raises(BundleError, match=f"{name}.npy holds values that are not finite"):
        read_index(tmp_path)


def test_a_damaged_description_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"index\.json"):
        read_index(tmp_path)
    write_index(example_index(), tmp_path)
    path = tmp_path / "index.json"
    sizes = json.loads(path.read_text())
    for change, named in (
        ({"format": 99}, "format 99 is not 1"),
        ({"metric": "l1"}, "'l1'"),
        ({"dtype": "int4"}, "'int4'"),
    ):
        path.write_text(json.dumps(sizes | change))
        with pytest.raises(BundleError, match=named):
            read_index(tmp_path)
    for content in ("{", "[]", "{}", '{"format": null}'):
        path.write_text(content)
        with pytest.raises(BundleError, match=r"index\.json"):
            read_index(tmp_path)


def test_a_check_names_what_does_not_fit(tmp_path):
    write_index(full_index(), tmp_path)
    assert check_index(tmp_path, num_features=16, num_cells=NUM_CELLS, encoder_fingerprint="abc").metric == "l2"
    with pytest.raises(BundleError, match="num_features=16 is not 8"):
        check_index(tmp_path, num_features=8)
    with pytest.raises(BundleError, match="num_cells=7 is not 9"):
        check_index(tmp_path, num_cells=9)
    with pytest.raises(BundleError, match="built with encoder abc, not def"):
        check_index(tmp_path, encoder_fingerprint="def")
    (tmp_path / "member_codes.npy").unlink()
    with pytest.raises(BundleError, match=r"member_codes\.npy"):
        check_index(tmp_path)


@pytest.mark.parametrize("cuts", [[], [0], [3], [1, 2, 3, 4, 5, 6], [2, 2, 7]])
def test_parts_are_the_whole(tmp_path, cuts):
    index = full_index()
    edges = [0, *cuts, NUM_CELLS]
    parts = [take_cells(index, a, b) for a, b in pairwise(edges)]
    assert_same_index(concat(parts), index)
    write_parts(iter(parts), tmp_path)
    assert_same_index(read_index(tmp_path), index)


def test_empty_cells_hold_nothing(tmp_path):
    index = full_index()
    write_parts([empty_cells(index, 2), index, empty_cells(index, 1)], tmp_path)
    again = read_index(tmp_path)
    assert again.num_cells == NUM_CELLS + 3
    assert_same_index(take_cells(again, 2, 2 + NUM_CELLS), index)


def test_parts_that_differ_are_refused(tmp_path):
    index = example_index()
    for other, named in (
        (example_index(dtype="float16"), "dtype"),
        (example_index(metric="ip"), "metric"),
        (dataclasses.replace(index, encoder_fingerprint="x"), "encoder_fingerprint"),
        (full_index(), "encoder_fingerprint"),
        (dataclasses.replace(index, member_ids=None), "optional"),
    ):
        with pytest.raises(ValueError, match=f"differ in {named}"):
            write_parts([index, other], tmp_path)
        with pytest.raises(ValueError, match=f"differ in {named}"):
            concat([index, other])
    with pytest.raises(ValueError, match="at least one part"):
        write_parts([], tmp_path)


def test_an_index_that_was_left_half_written_does_not_open(tmp_path):
    index = example_index()
    write_index(index, tmp_path)

    def parts():
        yield take_cells(index, 0, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parts(parts(), tmp_path)
    with pytest.raises(BundleError, match=r"index\.json"):
        read_index(tmp_path)
