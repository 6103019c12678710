"""What is held out: blocks, regions with a buffer, and countries."""

import numpy as np
import pytest

from geo_ray.atlas.boundaries import boundaries
from geo_ray.datasets import earth
from geo_ray.datasets.splits import (
    BLOCK_SHARES,
    BUFFER_KM,
    MIN_PHOTOS,
    NUM_COUNTRIES,
    NUM_REGIONS,
    REGION_KM,
    splits,
    units_of,
)
from geo_ray.geo.blocks import block_ids
from geo_ray.geo.sphere import EARTH_RADIUS_KM, destination, unit_vectors

KINDS = ("blocks", "regions", "countries")


def test_whole_blocks_are_held_out_in_the_stated_shares():
    latlon = earth.locations()
    split, blocks = splits(latlon, 7), block_ids(latlon)
    assert set(split) == {"train", "validation", "test"}
    held = {name: set(blocks[split == name]) for name in ("train", "validation", "test")}
    num_blocks = len(np.unique(blocks))
    assert sum(map(len, held.values())) == num_blocks
    assert len(held["test"]) / num_blocks == pytest.approx(BLOCK_SHARES["test"], abs=0.005)
    assert len(held["validation"]) / num_blocks == pytest.approx(BLOCK_SHARES["validation"], abs=0.005)
    assert (split == "test").sum() >= 5000


def test_splits_follow_the_seed_and_nothing_else():
    latlon = earth.locations()[::50]
    split = splits(latlon, 7)
    np.testing.assert_array_equal(splits(latlon[::-1], 7)[::-1], split)
    np.testing.assert_array_equal(np.concatenate([splits(row[None], 7) for row in latlon[:20]]), split[:20])
    other = splits(latlon, 8)
    assert (other == "test").any()
    assert ((other == "test") != (split == "test")).any()
    assert splits(np.zeros((0, 2)), 7).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_is_held_out_wholly_or_not_at_all(kind):
    latlon = earth.locations()
    split = splits(latlon, 7, kind)
    held_out = split != "train" if kind != "regions" else (split == "test") | (split == "validation")
    units = units_of(latlon, 7, kind)
    by_unit = {(unit, name) for unit, name in zip(units[held_out], split[held_out], strict=True)}
    assert len({unit for unit, _ in by_unit}) == len(by_unit)
    if kind != "regions":
        assert not set(units[held_out]) & set(units[~held_out])


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_is_held_out_by_where_it_is_alone(kind):
    latlon = earth.locations()[::500]
    split = splits(latlon, 7, kind)
    np.testing.assert_array_equal(splits(latlon[::-1], 7, kind)[::-1], split)
    assert (splits(latlon, 8, kind) != split).any()
    assert splits(np.zeros((0, 2)), 7, kind).shape == (0,)


def test_nothing_is_trained_on_within_a_buffer_of_a_region():
    """By every distance between a held-out place and a training place, and for places moved to the edges."""
    latlon = earth.locations()
    split = splits(latlon, 7, "regions")
    held_out, training = latlon[np.isin(split, ("test", "validation"))], latlon[split == "train"]
    nearest = max((unit_vectors(part) @ unit_vectors(training).T).max() for part in np.array_split(held_out, 50))
    assert EARTH_RADIUS_KM * np.arccos(nearest) >= BUFFER_KM
    assert len(set(units_of(latlon[split == "test"], 7, "regions"))) == NUM_REGIONS["test"]
    assert len(np.unique(block_ids(training))) > 0.4 * len(np.unique(block_ids(latlon)))


def test_the_buffer_goes_round_a_region_that_lies_across_the_antimeridian(monkeypatch):
    fiji = np.array([[-17.0, 179.99]])
    monkeypatch.setattr(earth, "locations", lambda: fiji)
    east = destination(fiji.repeat(4, axis=0), np.array([0.0, 90.0, 110.0, 510.0]), np.zeros(4))
    assert east[1, 1] < 0
    first = splits(np.concatenate([fiji, east]), 3, "regions")
    assert first.tolist() == ["test", "test", "test", "between", "train"]
    assert REGION_KM + BUFFER_KM < 510


def test_countries_are_held_out_that_have_enough_photos():
    latlon = earth.locations()
    split, countries = splits(latlon, 7, "countries"), boundaries().place_of(latlon).country
    for name in ("test", "validation"):
        codes, counts = np.unique(countries[split == name].astype(str), return_counts=True)
        assert len(codes) == NUM_COUNTRIES[name]
        assert counts.min() >= MIN_PHOTOS
