"""Places to train on: never in a held-out block, in groups, and by the seed."""

import itertools

import numpy as np
import pytest
import torch

from geo_ray.datasets import earth
from geo_ray.datasets.splits import splits
from geo_ray.geo.blocks import block_ids
from geo_ray.geo.sphere import great_circle_km
from geo_ray.train.config import TrainConfig
from geo_ray.train.places import draw_places, place_batches, place_weights, train_locations

CONFIG = TrainConfig(places_per_step=32, image_size=32)


def test_splits_are_apart_and_whole():
    parts = {name: train_locations(CONFIG, name) for name in ("train", "validation", "test")}
    blocks = {name: set(block_ids(latlon)) for name, latlon in parts.items()}
    assert not blocks["train"] & (blocks["test"] | blocks["validation"])
    assert not blocks["test"] & blocks["validation"]
    assert sum(map(len, parts.values())) == len(earth.locations())


@pytest.mark.parametrize("offset_km", [20.0, 500.0])
def test_moved_places_are_never_in_a_held_out_block(offset_km):
    """Also about the antimeridian, where a move wraps the longitude, and at the highest latitudes."""
    config = TrainConfig(places_per_step=4000, offsets_km=(0.0, offset_km, offset_km, offset_km))
    latlon = train_locations(config, "train")
    seam = latlon[(np.abs(latlon[:, 1]) > 178) | (np.abs(latlon[:, 0]) > 75)]
    for origins in (latlon, seam):
        weights = place_weights(origins)
        places = draw_places(origins, weights, config, np.random.default_rng(0))
        assert set(splits(places, config.split_seed)) == {"train"}
        assert (np.abs(places[:, 1]) <= 180).all()


def test_places_come_in_groups_about_a_location():
    latlon = train_locations(CONFIG, "train")
    places = draw_places(latlon, place_weights(latlon), CONFIG, np.random.default_rng(0))
    assert places.shape == (32, 2)
    known = {tuple(np.round(row, 6)) for row in latlon}
    assert all(tuple(np.round(row, 6)) in known for row in places[:: len(CONFIG.offsets_km)])
    origin = np.repeat(places[:: len(CONFIG.offsets_km)], len(CONFIG.offsets_km), axis=0)
    away = great_circle_km(origin, places)
    assert (away[:: len(CONFIG.offsets_km)] == 0).all()
    assert 5 < np.median(away[away > 0.001]) < 60


def test_a_blocks_weight_is_the_root_of_its_count():
    latlon = np.array([[0.1, 0.1], [0.11, 0.1], [0.12, 0.1], [0.13, 0.1], [50.0, 50.0]])
    weights = place_weights(latlon)
    assert weights.sum() == pytest.approx(1)
    assert weights[:4].sum() / weights[4] == pytest.approx(2)


def test_batches_follow_seed_and_rank(small_earth):
    first, again, other = (list(itertools.islice(place_batches(CONFIG, rank), 2)) for rank in (0, 0, 1))
    for batch, same in zip(first, again, strict=True):
        for name in ("first", "second", "latlon"):
            assert torch.equal(getattr(batch, name), getattr(same, name))
        assert batch.first.shape == batch.second.shape == (32, 3, 32, 32)
        assert min(batch.first.min(), batch.second.min()) >= 0
        assert max(batch.first.max(), batch.second.max()) <= 1
    assert not torch.equal(first[0].latlon, first[1].latlon)
    assert not torch.equal(first[0].latlon, other[0].latlon)
