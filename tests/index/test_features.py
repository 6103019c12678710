"""Vectors as they are stored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.errors import InputError
from geo_ray.index import features as module
from geo_ray.index.features import StoredFeatures, encode_features, widen


@given(st.integers(0, 2**32 - 1), st.floats(-8, 17))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_component_as_int8_is_off_by_half_a_scale(seed, magnitude):
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(5, 33)) * 10.0**magnitude).astype(np.float32)
    stored = encode_features(features)
    error = np.abs(stored.decode().astype(np.float64) - features)
    assert (error <= stored.scales[:, None] * 0.5001).all()
    assert (np.abs(stored.codes).max(axis=1) == 127).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_floats_are_stored_as_numpy_rounds_them(dtype):
    features = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)
    stored = encode_features(features, dtype)
    assert stored.dtype == dtype
    assert stored.scales is None
    np.testing.assert_array_equal(stored.decode(), features.astype(dtype).astype(np.float32))


def test_every_half_float_widens_to_itself():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(1, -1)
    np.testing.assert_array_equal(widen(finite, np.empty(finite.shape, np.float32)), finite.astype(np.float32))


def test_zeros_are_zeros_and_nothing_is_nothing():
    for dtype in ("int8", "float16", "float32"):
        assert (encode_features(np.zeros((2, 4), np.float32), dtype).decode() == 0).all()
        assert encode_features(np.zeros((0, 4), np.float32), dtype).decode().shape == (0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e25])
def test_features_that_cannot_be_searched_are_refused(value):
    features = np.zeros((3, 4), np.float32)
    features[1, 2] = value
    with pytest.raises(InputError, match="1 of 3 feature vectors"):
        encode_features(features)


def test_features_too_large_for_half_floats_are_refused():
    with pytest.raises(InputError, match=r"7e\+04 don't fit float16"):
        encode_features(np.full((1, 2), 7e4, np.float32), "float16")


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_squared_lengths_are_of_what_is_stored(dtype, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    stored = encode_features(np.random.default_rng(1).normal(size=(11, 6)).astype(np.float32), dtype)
    np.testing.assert_allclose(stored.squared_norms, (stored.decode().astype(np.float64) ** 2).sum(axis=1), rtol=1e-6)
    given = StoredFeatures(codes=stored.codes, scales=stored.scales, squared=np.arange(11, dtype=np.float32))
    assert given.squared_norms.tolist() == list(range(11))


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_rows_decode_as_the_whole_does(dtype):
    stored = encode_features(np.random.default_rng(2).normal(size=(9, 5)).astype(np.float32), dtype)
    rows = np.array([8, 0, 0, 3])
    np.testing.assert_array_equal(stored.decode(rows), stored.decode()[rows])
    np.testing.assert_array_equal(stored.decode(slice(2, 6)), stored.decode()[2:6])
    block = stored.block(2, 6, np.empty((4, 5), np.float32))
    scale = 1 if stored.scales is None else stored.scales[2:6, None]
    np.testing.assert_array_equal(block * scale, stored.decode()[2:6])
