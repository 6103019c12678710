"""The layers of areas in a user's file: of any vector format that GDAL reads, or GeoParquet, which its wheels don't."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import shapely
from jaxtyping import Shaped

from geo_ray.atlas.geoparquet import geometries_of, geometry_column, is_parquet, open_parquet, reading
from geo_ray.errors import InputError, MissingDataError

Values = Mapping[str, Collection[str]]  # by column
Rows = tuple[list[Shaped[np.ndarray, "a"]], Shaped[np.ndarray, "a"]]  # columns' values, and polygons


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a layer says of itself: its columns, and the system of its coordinates, as "EPSG:4326", or its name.

    ``read`` answers with columns and polygons of the rows whose values are none of those given.
    """

    columns: list[str]
    crs: str | None
    read: Callable[[list[str], Values], Rows]


def polygon_layers(path: str | Path) -> list[str]:
    """Names of the layers that may hold polygons; ``InputError`` where there are none, or the file can't be read."""
    if is_parquet(path):
        return [Path(path).stem]
    with _gdal(path):
        from pyogrio import list_layers

        layers = [(str(name), str(kind)) for name, kind in list_layers(path)]
    found = [name for name, kind in layers if re.search("Polygon|Surface|Collection|Unknown", kind)]
    if not found:
        held = ", ".join(f"{name}: {kind}" for name, kind in layers)
        raise InputError(f"{path} holds no polygons ({held}); give a file of areas, not of lines, points or text")
    return found


def open_layer(path: str | Path, layer: str) -> Layer:
    """A layer that ``polygon_layers`` names."""
    return _parquet_layer(path) if is_parquet(path) else _gdal_layer(path, layer)


def _parquet_layer(path: str | Path) -> Layer:
    with _needed(path):
        import pycountry  # noqa: F401 - said before minutes of reading
    dataset = open_parquet(path)
    geometry = geometry_column(path, dataset.schema)

    def read(columns: list[str], without: Values) -> Rows:
        kept = ds.scalar(True)
        for column, values in without.items():
            kept &= ~pc.field(column).isin(list(values))
        with reading(path):
            table = dataset.to_table(columns=[*columns, geometry.name], filter=kept)
        polygons = geometries_of(path, table.column(geometry.name), geometry)
        return [np.array(table.column(name).to_pylist(), dtype=object) for name in columns], polygons

    names = [name for name in dataset.schema.names if name != geometry.name]
    return Layer(columns=names, crs=geometry.crs, read=read)


def _gdal_layer(path: str | Path, layer: str) -> Layer:
    with _gdal(path):
        from pyogrio import raw, read_info

        info = read_info(path, layer=layer)

    def read(columns: list[str], without: Values) -> Rows:
        where = " AND ".join(f'"{column}" NOT IN ({quoted(values)})' for column, values in without.items()) or None
        with _gdal(path):
            meta, _, wkb, values = raw.read(path, layer=layer, columns=columns, where=where, force_2d=True)
        by_name = dict(zip(meta["fields"].tolist(), values, strict=True))
        return [by_name[name] for name in columns], np.asarray(shapely.from_wkb(wkb, on_invalid="fix"))

    return Layer(columns=[str(name) for name in info["fields"]], crs=info["crs"], read=read)


@contextmanager
def _needed(path: str | Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingDataError(f"reading {path} needs {error.name}: pip install 'geo-ray[gis]'") from error


@contextmanager
def _gdal(path: str | Path) -> Iterator[None]:
    """What GDAL can't do with a file as an ``InputError`` of one line."""
    with _needed(path):
        import pycountry  # noqa: F401 - said before minutes of reading
        from pyogrio import errors
    try:
        yield
    except (errors.DataSourceError, errors.DataLayerError, errors.FeatureError, errors.GeometryError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} can't be read; look at it with ogrinfo -al -so. GDAL says: {reason}") from error


def quoted(values: Iterable[str]) -> str:
    """Values as SQL wants them."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
