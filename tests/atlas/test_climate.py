"""Climate zones and driving sides of known places; what is missing is missing."""

import numpy as np
import pytest

from geo_ray.atlas import climate
from geo_ray.atlas.climate import MISSING, RASTER_ZONES, ZONES, climate_zones
from geo_ray.atlas.driving import LEFT, LEFT_DRIVING, NO_ROADS, RIGHT, drive_sides
from geo_ray.atlas.geonames import english_names

PLACES = {
    "Paris": (48.85, 2.35, "Cfb"),
    "Cairo": (30.05, 31.25, "BWh"),
    "Singapore": (1.35, 103.8, "Af"),
    "Moscow": (55.75, 37.6, "Dfb"),
    "Rome": (41.9, 12.5, "Csa"),
    "Darwin": (-12.46, 130.9, "Aw"),
    "the middle of Greenland": (72.0, -40.0, "EF"),
    "the South Pole": (-90.0, 0.0, "EF"),
    "Suva": (-18.1, 178.44, "Af"),
}


@pytest.fixture(autouse=True, scope="module")
def data():
    climate._raster()


def test_zones_of_known_places():
    found = climate_zones(np.array([place[:2] for place in PLACES.values()]))
    assert {name: list(ZONES)[zone] for name, zone in zip(PLACES, found, strict=True)} == {
        name: place[2] for name, place in PLACES.items()
    }


def test_the_sea_has_none_and_a_shore_has_its_lands():
    assert (
        climate_zones(np.array([[0.0, -150.0], [90.0, -180.0], [89.99, -179.9], [90.0, 180.0]])).tolist()
        == [MISSING] * 4
    )
    lagoon = np.array([[45.434, 12.34], [45.40, 12.44], [45.2, 13.0]])  # Venice, its Lido's beach, the open Adriatic
    assert climate_zones(lagoon).tolist()[2] == MISSING
    assert MISSING not in climate_zones(lagoon).tolist()[:2]


def test_the_antimeridian_is_no_edge(monkeypatch):
    """Land in the last column only: a point in the first, a pixel away, is on its shore."""
    zones = np.full((6480, 12960), len(ZONES), np.uint8)
    zones[3000, -1] = 5
    monkeypatch.setattr(climate, "_raster", lambda: zones)
    latitude = 90 - 180 * (3000.5 / 6480)
    points = np.array([[latitude, 179.99], [latitude, -179.99], [latitude, 180.0], [latitude, -179.8]])
    assert climate_zones(points).tolist() == [5, 5, 5, MISSING]


def test_all_zones_are_in_the_raster_and_nothing_else():
    assert set(RASTER_ZONES) == set(ZONES)
    assert len(ZONES) == len(set(ZONES.values())) == 30
    assert climate_zones(np.zeros((0, 2))).shape == (0,)


def test_sides_of_the_road():
    given = np.array(["GB", "FR", "JP", "US", "AQ", "", "XX", "MT"], dtype=object)
    assert drive_sides(given).tolist() == [LEFT, RIGHT, LEFT, RIGHT, MISSING, MISSING, MISSING, LEFT]
    assert set(english_names()) >= LEFT_DRIVING
    assert not LEFT_DRIVING & NO_ROADS
