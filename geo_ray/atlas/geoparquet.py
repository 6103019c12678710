"""GeoParquet: what makes a parquet file one, areas in our own, and where anyone's has its geometry, and what it is."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import shapely
from jaxtyping import Int64, Shaped

from geo_ray.errors import InputError

SUFFIXES = (".parquet", ".geoparquet", ".pq", ".parq")
NAMES = ("geometry", "geom", "wkb_geometry")  # of columns of WKB in files that don't say which it is
WGS_84 = ("WGS 84", "WGS 84 (CRS84)", "WGS 84 (3D)", "WGS 84 longitude-latitude", "GCS_WGS_1984")  # without a code
DEFAULT_CRS = "OGC:CRS84"  # of GeoParquet 1.1 without the key "crs"; null is a system that isn't known


@dataclass(frozen=True, kw_only=True)
class GeometryColumn:
    """The column of a file's geometry: its encoding in lower case, and its system of coordinates.

    ``crs`` is authority and code, as "EPSG:4326", or else a name; None where the file doesn't know.
    """

    name: str
    encoding: str
    crs: str | None


def geoparquet_metadata(geometry_types: list[str]) -> bytes:
    """The ``geo`` entry of a GeoParquet 1.1 file whose WKB column ``geometry`` is in OGC:CRS84, the default."""
    column = {"encoding": "WKB", "geometry_types": geometry_types, "edges": "planar"}
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()


def write_areas(
    path: Path, columns: Mapping[str, pa.Array], polygons: Shaped[np.ndarray, "a"], metadata: Mapping[bytes, bytes]
) -> None:
    """Write one row an area: these columns, and the polygon (longitude first) as ``geometry``."""
    geometry = pa.array(shapely.to_wkb(polygons), pa.binary())
    table = pa.table({**columns, "geometry": geometry})
    metadata = {b"geo": geoparquet_metadata(["Polygon", "MultiPolygon"]), **metadata}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", compression_level=19)


def read_areas(
    path: Path, what: str, columns: tuple[str, ...], remedy: str
) -> tuple[dict[str, Any], Shaped[np.ndarray, "a"], dict[bytes, bytes]]:
    """What ``write_areas`` wrote: columns, polygons and metadata; ``InputError`` where it is no such file."""
    with reading(path, what):
        table = pq.read_table(path)
    missing = [name for name in (*columns, "geometry") if name not in table.column_names]
    if missing:
        raise InputError(f"{path} lacks the columns {missing}; {remedy}")
    arrays = {name: table.column(name).to_numpy(zero_copy_only=False) for name in columns}
    polygons = _from_wkb(path, table.column("geometry"))
    return arrays, polygons, dict(table.schema.metadata or {})


def is_parquet(path: str | Path) -> bool:
    """Whether a file is parquet by its name or its first bytes, or a folder holds parts that are by their names."""
    path = Path(path)
    if path.is_dir():
        return any(part.suffix.lower() in SUFFIXES for part in path.rglob("*"))
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def open_parquet(path: str | Path) -> Any:
    """A file, or all parts in a folder, as a dataset of pyarrow; ``InputError`` where it can't be read."""
    parts = {"partitioning": "hive", "exclude_invalid_files": True} if Path(path).is_dir() else {}
    with reading(path):
        return ds.dataset(path, format="parquet", **parts)


@contextmanager
def reading(path: str | Path, what: str = "areas") -> Iterator[None]:
    """What pyarrow can't do with a file as an ``InputError`` of one line."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable GeoParquet file of {what}: {reason}") from error


def geometry_column(path: str | Path, schema: pa.Schema) -> GeometryColumn:
    """By GeoParquet's metadata, or else a type of GeoArrow, or a column of bytes that is called geometry.

    ``InputError`` where there is none.
    """
    geo = _json((schema.metadata or {}).get(b"geo", b""))
    columns = geo.get("columns", {})
    for name in (geo.get("primary_column"), *columns):
        if name in columns and name in schema.names:
            crs = columns[name].get("crs", DEFAULT_CRS)
            return GeometryColumn(name=name, encoding=str(columns[name].get("encoding")).lower(), crs=crs_name(crs))
    for field in schema:
        told = field.metadata or {}
        kind = told.get(b"ARROW:extension:name", b"").decode()
        if kind.startswith("geoarrow."):
            crs = _json(told.get(b"ARROW:extension:metadata", b"")).get("crs")
            return GeometryColumn(name=field.name, encoding=kind.removeprefix("geoarrow."), crs=crs_name(crs))
    for field in schema:
        if field.name.lower() in NAMES and "binary" in str(field.type):
            return GeometryColumn(name=field.name, encoding="wkb", crs=None)
    raise InputError(
        f"{path} has no column of geometry; write it as GeoParquet, as to_parquet of geopandas does. "
        f"It has: {', '.join(schema.names) or 'none'}"
    )


def crs_name(crs: Any) -> str | None:
    """Authority and code of PROJJSON, WKT or a URN, or else the system's name; None for none."""
    if isinstance(crs, str) and crs.startswith("{"):
        crs = _json(crs.encode())
    if not crs:
        return None
    if isinstance(crs, str):
        code = re.search(r'(?:ID|AUTHORITY)\["(\w+)",\s*"?(\w+)"?\]\s*\]\s*$|(EPSG|OGC)[:/][^:/]*[:/](\w+)$', crs)
        name = re.match(r'\w+\["([^"]*)"', crs)
        text = ":".join(filter(None, code.groups())) if code else name[1] if name else crs
    elif code := crs.get("id") or next(iter(crs.get("ids", [])), None):
        text = f"{code['authority']}:{code['code']}"
    else:
        text = str(crs.get("source_crs", crs).get("name", "a system without a name"))
    return DEFAULT_CRS if text in WGS_84 else text


def geometries_of(path: str | Path, values: pa.ChunkedArray, column: GeometryColumn) -> Shaped[np.ndarray, "a"]:
    """The geometries in two dimensions, None where there is none; ``InputError`` where they can't be read."""
    if column.encoding == "wkb":
        return np.asarray(shapely.force_2d(_from_wkb(path, values)))
    levels = {"polygon": 2, "multipolygon": 3}.get(column.encoding)
    if levels is None:
        raise InputError(f"{path}: its geometry is encoded as {column.encoding}; write it as WKB, or as polygons")
    kind = shapely.GeometryType.POLYGON if levels == 2 else shapely.GeometryType.MULTIPOLYGON
    array, offsets = values.combine_chunks(), []
    missing = array.is_null().to_numpy(zero_copy_only=False)
    for _ in range(levels):
        offsets.append(_offsets(array))
        array = array.flatten()
    if pa.types.is_struct(array.type):
        xy = np.stack([array.field(axis).to_numpy(zero_copy_only=False) for axis in ("x", "y")], axis=1)
    else:  # interleaved
        xy = array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)[:, :2]
    found = np.asarray(shapely.from_ragged_array(kind, np.ascontiguousarray(xy, np.float64), tuple(offsets[::-1])))
    found[missing] = None
    return found


def _offsets(lists: pa.Array) -> Int64[np.ndarray, "n"]:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _from_wkb(path: str | Path, values: pa.ChunkedArray) -> Shaped[np.ndarray, "a"]:
    """The geometries, open rings closed; ``InputError`` names the first row that can't be read."""
    try:
        wkb = values.to_numpy(zero_copy_only=False)
        geometries = np.asarray(shapely.from_wkb(wkb, on_invalid="fix"))
    except TypeError as error:
        raise InputError(f"{path} holds geometry that can't be read: {error}; write the file again") from error
    bad = np.flatnonzero(shapely.is_missing(geometries) & np.array([value is not None for value in wkb], bool))
    if len(bad):
        raise InputError(
            f"{path} holds geometry that can't be read: {len(bad)} of {len(wkb)}, such as row {bad[0]}; "
            "write the file again"
        )
    return geometries


def _json(text: bytes) -> dict[str, Any]:
    """The object in a text; empty where it holds none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
