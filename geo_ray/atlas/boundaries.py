"""Administrative boundaries: in which country, admin 1 and admin 2 a point lies."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from jaxtyping import Float64, Shaped

from geo_ray.atlas.areas import Areas
from geo_ray.atlas.geoparquet import geoparquet_metadata, polygons_of, read_columns
from geo_ray.errors import InputError

COLUMNS = ("country", "admin_1", "admin_2", "geometry")


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
class Boundaries:
    """Areas of the finest level there is, by index: polygons (longitude first, cut at longitude 180) and names."""

    polygons: Shaped[np.ndarray, "a"]
    countries: Shaped[np.ndarray, "a"]
    admin_1: Shaped[np.ndarray, "a"]
    admin_2: Shaped[np.ndarray, "a"]
    source: str
    licence: str

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~shapely.is_valid(self.polygons) | shapely.is_empty(self.polygons))
        if len(bad):
            examples = "; ".join(f"row {row}: {shapely.is_valid_reason(self.polygons[row])}" for row in bad[:3])
            raise InputError(f"{self.source}: {len(bad)} of {len(self)} areas are empty or not valid ({examples})")
        nameless = np.flatnonzero(self.countries == "")
        if len(nameless):
            raise InputError(
                f"{self.source}: {len(nameless)} areas have no country, such as rows {nameless[:3].tolist()}"
            )

    def __len__(self) -> int:
        return len(self.polygons)

    @cached_property
    def areas(self) -> Areas:
        """The areas as an index of points."""
        return Areas(self.polygons)

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
    table = pa.table(
        {
            "country": pa.array(areas.countries, pa.string()).dictionary_encode(),
            "admin_1": pa.array(areas.admin_1, pa.string()).dictionary_encode(),
            "admin_2": pa.array(areas.admin_2, pa.string()),
            "geometry": pa.array(shapely.to_wkb(areas.polygons), pa.binary()),
        }
    )
    metadata = {
        b"geo": geoparquet_metadata(["Polygon", "MultiPolygon"]),
        b"source": areas.source.encode(),
        b"licence": areas.licence.encode(),
    }
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", compression_level=19)


def read_boundaries(path: Path) -> Boundaries:
    """Read what ``write_boundaries`` wrote; ``InputError`` names what is wrong with the file."""
    names, metadata = read_columns(path, "boundaries", COLUMNS, "write it with jobs/build_boundaries.py")
    return Boundaries(
        polygons=polygons_of(path, names["geometry"]),
        countries=names["country"],
        admin_1=names["admin_1"],
        admin_2=names["admin_2"],
        source=metadata.get(b"source", str(path).encode()).decode(),
        licence=metadata.get(b"licence", b"").decode(),
    )
