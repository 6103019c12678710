"""Names of places: country, region and nearest town."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from geo_ray.atlas.boundaries import Boundaries
from geo_ray.atlas.cities import gazetteer


class PlaceNames(NamedTuple):
    """ISO 3166 alpha-2 country, region and nearest town of places; empty where unknown."""

    countries: Shaped[np.ndarray, "n"]
    regions: Shaped[np.ndarray, "n"]
    towns: Shaped[np.ndarray, "n"]


def place_names(latlon: Float64[np.ndarray, "n 2"], areas: Boundaries) -> PlaceNames:
    """Names by the boundaries, with the region and town of the nearest populated place where its country is the same.

    Across a border, the region is the boundaries' and there is no town.
    """
    inside, near = areas.place_of(latlon), gazetteer().places_of(latlon)
    home = inside.country == near.country
    return PlaceNames(
        countries=inside.country,
        regions=np.where(home, near.region, inside.admin_1),
        towns=np.where(home, near.city, ""),
    )
