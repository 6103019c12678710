"""The outlines of the world's land and countries, as a base layer for maps."""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class World:
    """Natural Earth's 1:110m land and borders, in degrees, cut at longitude 180 so that they can be drawn in the plane.

    ``land`` are closed rings, outer ones and holes alike, to fill by the even-odd rule; ``borders`` are open lines
    between countries. Too coarse to say in which country a point lies.
    """

    land: tuple[Float64[np.ndarray, "_ 2"], ...]
    borders: tuple[Float64[np.ndarray, "_ 2"], ...]
    source: str
    licence: str


@lru_cache(maxsize=1)
def world() -> World:
    """The map that ships with the package, built by ``jobs/build_world_map.py``."""
    content = json.loads((files("geo_ray.atlas") / "world.json").read_text(encoding="utf-8"))
    return World(
        land=tuple(_latlon(ring) for ring in content["land"]),
        borders=tuple(_latlon(line) for line in content["borders"]),
        source=content["source"],
        licence=content["licence"],
    )


def _latlon(flat: list[float | int]) -> Float64[np.ndarray, "n 2"]:
    """The file holds lon, lat, lon, lat ..., as GeoJSON does."""
    return np.array(flat, np.float64).reshape(-1, 2)[:, ::-1]
