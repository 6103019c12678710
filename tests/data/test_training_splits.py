"""What is held out stays so, and nothing is trained on that gives it away."""

import numpy as np
import pytest

from geo_ray.data.training_splits import SplitRules, split_images
from geo_ray.geo.sphere import destination, pairwise_km


@pytest.fixture(scope="module")
def latlon():
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(-85, 85, 4000), rng.uniform(-180, 180, 4000)], axis=1)


def test_shares_of_blocks(latlon):
    found = split_images(latlon, SplitRules())
    assert set(found) == {"train", "validation", "test"}
    assert 0.05 < (found == "test").mean() < 0.09
    assert (split_images(latlon, SplitRules()) == found).all()
    assert (split_images(latlon, SplitRules(seed=8)) != found).any()


def test_a_buffer_keeps_training_away_from_what_is_held_out(latlon):
    found = split_images(latlon, SplitRules(buffer_km=100.0))
    held_out = np.isin(found, ("validation", "test"))
    apart = pairwise_km(latlon[found == "train"], latlon[held_out]).min()
    assert apart > 100
    assert pairwise_km(latlon[found == "buffer"], latlon[held_out]).min(axis=1).max() <= 100
    assert (held_out == np.isin(split_images(latlon, SplitRules()), ("validation", "test"))).all()


def test_a_buffer_crosses_the_antimeridian_and_the_pole():
    here = np.array([[10.0, 179.999], [89.99, 0.0]])
    given = np.array(["test", "test", "train", "train", "train"], dtype=object)
    others = np.array([[10.0, -179.999], [89.99, 180.0], [10.0, 170.0]])
    found = split_images(np.concatenate([here, others]), SplitRules(buffer_km=5.0), given=given)
    assert found.tolist() == ["test", "test", "buffer", "buffer", "train"]


def test_authors_of_held_out_images_are_not_trained_on(latlon):
    groups = np.array([f"author {number % 500}" for number in range(len(latlon))], dtype=object)
    groups[::7] = ""
    found = split_images(latlon, SplitRules(), groups)
    held_out = set(groups[np.isin(found, ("validation", "test"))]) - {""}
    assert not held_out & set(groups[found == "train"])
    assert (groups[found == "same_group"] != "").all()
    assert "" in groups[found == "train"]  # who is unknown is no one's group


def test_nothing_near_a_benchmark_is_trained_on(latlon):
    found = split_images(latlon, SplitRules())
    benchmark = destination(latlon[:200], np.full(200, 0.05), np.zeros(200))
    left = split_images(latlon, SplitRules(), benchmarks=[benchmark])
    assert (left[:200][found[:200] == "train"] == "near_benchmark").all()
    assert (left[:200][found[:200] != "train"] == found[:200][found[:200] != "train"]).all()
    assert (left[200:] == found[200:]).all()
    assert (split_images(latlon, SplitRules(), benchmarks=[np.zeros((0, 2))]) == found).all()


def test_a_data_sets_own_splits_are_kept():
    given = np.array(["val", "test", "train", ""], dtype=object)
    found = split_images(np.zeros((4, 2)), SplitRules(), given=given)
    assert found[:3].tolist() == ["validation", "test", "train"]
    with pytest.raises(ValueError, match="no distance below 0"):
        SplitRules(buffer_km=-1.0)
