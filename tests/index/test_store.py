"""Stored features and the files of an index."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.errors import BundleError
from geo_ray.index.prototypes import Clustering, build_index
from geo_ray.index.store import encode_features, read_index, write_index
from tests.index.example import example_index

ARRAYS = ("cell_offsets", "prototype_codes", "prototype_scales", "prototype_latlon", "member_offsets", "member_codes",
          "member_scales", "member_latlon")  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.floats(-8, 20))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_stored_component_is_off_by_half_a_scale(seed, magnitude):
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(5, 33)) * 10.0**magnitude).astype(np.float32)
    stored = encode_features(features)
    error = np.abs(stored.decode().astype(np.float64) - features)
    assert (error <= stored.scales[:, None] * 0.5001).all()
    assert (np.abs(stored.codes).max(axis=1) == 127).all()


def test_stored_zeros_are_zeros_and_nothing_is_nothing():
    assert (encode_features(np.zeros((2, 4), np.float32)).decode() == 0).all()
    assert encode_features(np.zeros((0, 4), np.float32)).decode().shape == (0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(value):
    features = np.zeros((3, 4), np.float32)
    features[1, 2] = value
    with pytest.raises(ValueError, match="1 of 3 feature vectors"):
        encode_features(features)


def test_written_and_read_again(tmp_path):
    index = example_index()
    write_index(index, tmp_path)
    again = read_index(tmp_path)
    for name in ("cell_offsets", "prototype_latlon", "member_offsets", "member_latlon", "member_prototypes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(index, name))
    for name in ("prototype_features", "member_features"):
        np.testing.assert_array_equal(getattr(again, name).decode(), getattr(index, name).decode())


def test_an_empty_index_is_written_and_read_again(tmp_path):
    nothing = build_index(np.zeros((0, 8), np.float32), np.zeros((0, 2)), np.zeros(0, np.int64), 4, Clustering())
    write_index(nothing, tmp_path)
    assert len(read_index(tmp_path).member_latlon) == 0


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "short"])
def test_a_damaged_array_is_named(tmp_path, name, damage):
    write_index(example_index(), tmp_path)
    path = tmp_path / f"{name}.npy"
    content, array = path.read_bytes(), np.load(path)
    path.unlink()
    if damage == "short":
        np.save(path, array[:-1])
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[:-3])
    with pytest.raises(BundleError, match=f"{name}.npy"):
        read_index(tmp_path)


def test_a_damaged_description_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"index\.json"):
        read_index(tmp_path)
    write_index(example_index(), tmp_path)
    path = tmp_path / "index.json"
    sizes = json.loads(path.read_text())
    path.write_text(json.dumps(sizes | {"format": 99}))
    with pytest.raises(BundleError, match="format 99 is not 1"):
        read_index(tmp_path)
    for content in ("{", "[]", "{}", '{"format": null}'):
        path.write_text(content)
        with pytest.raises(BundleError, match=r"index\.json"):
            read_index(tmp_path)
