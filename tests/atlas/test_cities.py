"""The nearest populated place."""

import numpy as np
import pytest

from geo_ray.atlas.cities import country_names, gazetteer
from geo_ray.geo.sphere import pairwise_km


@pytest.mark.parametrize(
    ("latlon", "country", "region", "city"),
    [
        ((48.8566, 2.3522), "FR", "Île-de-France", "Paris"),
        ((21.307, -157.858), "US", "Hawaii", "Honolulu"),
        ((-33.87, 151.21), "AU", "New South Wales", "Sydney"),
    ],
)
def test_known_places(latlon, country, region, city):
    found = gazetteer().places_of(np.array([latlon]))
    assert (found.country[0], found.region[0], found.city[0]) == (country, region, city)
    assert found.distance_km[0] < 5


def test_nearest_is_by_great_circle_at_the_seams():
    """Poles, both sides of the antimeridian and open sea against the distances to all places."""
    latlon = np.array([[90.0, 0.0], [-90.0, 0.0], [-17.0, 180.0], [-17.0, -180.0], [65.0, 179.9], [0.0, -130.0]])
    names = gazetteer()
    found = names.places_of(latlon)
    np.testing.assert_allclose(found.distance_km, pairwise_km(latlon, names._latlon).min(axis=1), atol=1e-4)
    assert found.city[2] == found.city[3]


def test_no_points():
    found = gazetteer().places_of(np.zeros((0, 2)))
    assert len(found.country) == len(found.city) == len(found.distance_km) == 0


def test_every_country_has_a_name():
    names = country_names()
    assert names["FR"] == "France"
    assert set(gazetteer()._country) <= set(names)


def test_the_gazetteer_is_read_once():
    assert gazetteer() is gazetteer()
