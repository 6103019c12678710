"""Countries held out of training: which, and that no training view shows them."""

import dataclasses

import numpy as np
import pytest
import shapely

from geo_ray.atlas.boundaries import Boundaries
from geo_ray.datasets import earth
from geo_ray.datasets.splits import splits
from geo_ray.geo.sphere import destination
from geo_ray.train import held_out
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.held_out import (
    NamedPlaces,
    distance_to_countries_km,
    held_out_countries,
    name_places,
    read_places,
    training_places,
    write_places,
)

CONFIG = CaptionConfig(num_held_out=2, min_photos=3, apart_km=300.0)


def boxes(*rows):
    """Areas of (code, west, south, east, north)."""
    return Boundaries(
        polygons=np.array([shapely.box(*row[1:]) for row in rows]),
        countries=np.array([row[0] for row in rows], dtype=object),
        admin_1=np.array([f"{row[0]} 1" for row in rows], dtype=object),
        admin_2=np.full(len(rows), "", dtype=object),
        source="drawn",
        licence="",
    )


def photos_of(**counts):
    codes = np.array([code for code, count in counts.items() for _ in range(count)], dtype=object)
    empty = np.full(len(codes), "", dtype=object)
    return NamedPlaces(latlon=np.zeros((len(codes), 2)), countries=codes, regions=empty, towns=empty)


def test_countries_are_held_out_by_hash_among_those_with_enough_photos():
    counts = {"FR": 9, "DE": 3, "IT": 5, "ES": 3, "MC": 2}
    chosen = held_out_countries(photos_of(**counts).countries, CONFIG)
    assert len(chosen) == 2
    assert "MC" not in chosen
    more = held_out_countries(photos_of(**(counts | {"FR": 90, "VA": 1})).countries, CONFIG)
    assert more == chosen  # by the codes alone, not by how many photos there are
    others = {held_out_countries(photos_of(**counts).countries, dataclasses.replace(CONFIG, seed=s)) for s in range(9)}
    assert len(others) > 1


def test_something_is_left_to_train_on():
    with pytest.raises(ValueError, match="num_held_out=2 leaves none of 2 countries"):
        held_out_countries(photos_of(FR=3, DE=3).countries, CONFIG)


def test_distances_to_a_country_are_to_its_nearest_outline():
    """A box whose northern side is one edge of 3,000 km: its middle is as near as its corners."""
    areas = boxes(("AA", 0, -5, 27, 0), ("BB", 100, 0, 101, 1))
    north = destination(np.array([[0.0, 13.5], [0.0, 0.0]]), np.zeros(2), np.array([250.0, 250.0]))
    east = destination(np.array([[-2.5, 27.0]]), np.array([400.0]), np.zeros(1))
    away = distance_to_countries_km(np.concatenate([north, east]), ("AA",), areas)
    np.testing.assert_allclose(away, [250, 250, 400], atol=6)


def test_training_places_are_outside_and_apart(monkeypatch):
    areas = boxes(("AA", 0, 0, 10, 10), ("BB", 10, 0, 20, 10), ("CC", 40, 0, 50, 10), ("DD", 60, 0, 70, 10))
    monkeypatch.setattr(held_out, "boundaries", lambda: areas)
    rng = np.random.default_rng(0)
    latlon = np.stack([rng.uniform(0, 10, 2000), rng.uniform(0, 70, 2000)], axis=1)
    photos = name_places(latlon, areas)
    codes = held_out_countries(photos.countries, CONFIG)
    places = training_places(photos, CONFIG)
    assert not np.isin(places.countries, codes).any()
    assert (distance_to_countries_km(places.latlon, codes, areas) >= CONFIG.apart_km).all()
    assert (splits(places.latlon, CONFIG.split_seed) == "train").all()
    nearer = training_places(photos, dataclasses.replace(CONFIG, apart_km=0.0))
    assert len(nearer) > len(places) > 100


def test_no_corner_of_a_view_reaches_a_held_out_country():
    config = CaptionConfig()
    corner = earth.CROP_KM * (1 + config.jitter) / np.sqrt(2)
    assert corner < config.apart_km - 2


def test_places_are_named_by_the_border_and_the_nearest_town():
    areas = boxes(("FR", 0, 44, 7.2, 50), ("DE", 7.2, 44, 12, 50))
    places = name_places(np.array([[48.8566, 2.3522], [48.5734, 7.7521]]), areas)
    assert places.countries.tolist() == ["FR", "DE"]
    assert places.regions[0] == "Île-de-France"
    assert places.towns[0] != ""
    assert (places.regions[1], places.towns[1]) == ("DE 1", "")  # the nearest town is Strasbourg, across this border


def test_places_survive_a_file(tmp_path):
    places = NamedPlaces(
        latlon=np.array([[1.5, -179.99], [-90.0, 0.0]]),
        countries=np.array(["FJ", "AQ"], dtype=object),
        regions=np.array(["Île", ""], dtype=object),
        towns=np.array(["", "Łódź"], dtype=object),
    )
    write_places(places, tmp_path / "places.parquet")
    again = read_places(tmp_path / "places.parquet")
    for field in dataclasses.fields(places):
        assert getattr(again, field.name).tolist() == getattr(places, field.name).tolist()
