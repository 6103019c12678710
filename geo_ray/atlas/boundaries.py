"""Administrative boundaries: in which country, admin 1 and admin 2 a point lies."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from jaxtyping import Float64, Shaped

from geo_ray.atlas.areas import NamedAreas
from geo_ray.atlas.geoparquet import open_parquet, read_areas, write_areas
from geo_ray.errors import InputError

COLUMNS = ("country", "admin_1", "admin_2")
SOURCE, LICENCE = b"source", b"licence"  # keys of the file's metadata


@dataclass(frozen=True, kw_only=True)
class PlaceNames:
    """For each point: ISO 3166 alpha-2 country, admin 1 and admin 2 (empty where unknown), and km to that area.

    ``distance_km`` is 0 where an area covers the point; else the names are those of the nearest one.
    """

    country: Shaped[np.ndarray, "n"]
    admin_1: Shaped[np.ndarray, "n"]
    admin_2: Shaped[np.ndarray, "n"]
    distance_km: Float64[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class Boundaries(NamedAreas):
    """Areas of the finest level there is, each of a country."""

    admin_2: Shaped[np.ndarray, "a"]
    source: str
    licence: str

    def __post_init__(self) -> None:
        bad = self.unsound
        if len(bad):
            examples = "; ".join(f"row {row}: {shapely.is_valid_reason(self.polygons[row])}" for row in bad[:3])
            raise InputError(f"{self.source}: {len(bad)} of {len(self)} areas are empty or not valid ({examples})")
        nameless = np.flatnonzero(self.countries == "")
        if len(nameless):
            raise InputError(
                f"{self.source}: {len(nameless)} areas have no country, such as rows {nameless[:3].tolist()}"
            )

    def place_of(self, latlon: Float64[np.ndarray, "n 2"]) -> PlaceNames:
        """Country, admin 1 and admin 2 of points (degrees); at sea, those of the nearest area by great circle."""
        found = self.areas.locate(latlon)
        return PlaceNames(
            country=self.countries[found.areas],
            admin_1=self.admin_1[found.areas],
            admin_2=self.admin_2[found.areas],
            distance_km=found.distance_km,
        )


@lru_cache(maxsize=1)
def boundaries() -> Boundaries:
    """The boundaries that ship with the package, built by ``jobs/build_boundaries.py``; loaded once a process."""
    return read_boundaries(Path(str(files("geo_ray.atlas") / "boundaries.parquet")))


def write_boundaries(areas: Boundaries, path: Path) -> None:
    """Write one row an area as GeoParquet, with source and licence in the file's metadata."""
    columns = {
        "country": pa.array(areas.countries, pa.string()).dictionary_encode(),
        "admin_1": pa.array(areas.admin_1, pa.string()).dictionary_encode(),
        "admin_2": pa.array(areas.admin_2, pa.string()),
    }
    write_areas(path, columns, areas.polygons, {SOURCE: areas.source.encode(), LICENCE: areas.licence.encode()})


def is_finished(path: str | Path) -> bool:
    """Whether ``write_boundaries`` wrote a parquet file: its areas are as they should be."""
    return {SOURCE, LICENCE} <= set(open_parquet(path).schema.metadata or {})


def read_boundaries(path: Path) -> Boundaries:
    """Read what ``write_boundaries`` wrote; ``InputError`` names what is wrong with the file."""
    names, polygons, metadata = read_areas(path, "boundaries", COLUMNS, "write it with jobs/build_boundaries.py")
    return Boundaries(
        polygons=polygons,
        countries=names["country"],
        admin_1=names["admin_1"],
        admin_2=names["admin_2"],
        source=metadata.get(SOURCE, str(path).encode()).decode(),
        licence=metadata.get(LICENCE, b"").decode(),
    )
