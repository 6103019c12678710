"""Boundaries from a user's own files: GADM, geoBoundaries, Natural Earth, or any whose columns are named."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Shaped
from shapely.affinity import translate

from geo_ray.atlas.areas import Areas, NamedAreas, polygonal
from geo_ray.atlas.boundaries import Boundaries, is_finished, read_boundaries
from geo_ray.atlas.boundary_layers import open_layer, polygon_layers, quoted
from geo_ray.atlas.boundary_schemas import GADM_LAYER, NO_COUNTRY, BoundaryColumns, Schema, countries_of, schema_of
from geo_ray.atlas.geoparquet import is_parquet
from geo_ray.errors import InputError

__all__ = ["BoundaryColumns", "load_boundaries"]

DEGREES = ("EPSG:4326", "EPSG:4979", "OGC:CRS84", "OGC:CRS84h")  # 4979 and CRS84h have heights too
ROUNDING_DEGREES = 1e-6  # 0.1 m: what lies beyond a bound by less lies on it


@dataclass(frozen=True, kw_only=True)
class _Units(NamedAreas):
    """The areas of a layer, with their publisher's codes of countries; ``left_out`` are those of no country."""

    codes: Shaped[np.ndarray, "a"]
    admin_2: Shaped[np.ndarray, "a"]
    left_out: tuple[str, ...] = ()
    licence: str

    def arrays(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def __getitem__(self, rows: Shaped[np.ndarray, "k"]) -> "_Units":
        return replace(self, **{name: array[rows] for name, array in self.arrays().items()})

    def __add__(self, other: "_Units") -> "_Units":
        both: dict[str, Any] = {
            name: np.concatenate([array, getattr(other, name)]) for name, array in self.arrays().items()
        }
        return replace(self, **both, left_out=self.left_out + other.left_out)

    def refuse(self, path: str | Path, bad: Bool[np.ndarray, "a"], problem: str, remedy: str) -> None:
        """Raise ``InputError`` with the number of bad areas and the first of them, if there are any."""
        if bad.any():
            rows = np.flatnonzero(bad)[:3]
            names = [[a[row] for a in (self.admin_2, self.admin_1, self.codes) if a[row]] for row in rows]
            examples = "; ".join(f"row {row} ({', '.join(name)})" for row, name in zip(rows, names, strict=True))
            raise InputError(f"{path}: {bad.sum()} of {len(bad)} areas {problem}, such as {examples}; {remedy}")


def load_boundaries(
    path: str | Path,
    *,
    layer: str | None = None,
    admin_1_path: str | Path | None = None,
    columns: BoundaryColumns | None = None,
) -> Boundaries:
    """The boundaries in a file: GeoParquet, or any vector format of GDAL (extra ``gis``).

    What ``write_boundaries`` wrote is read as it is. All else goes one way, whatever its format.
    Columns are those of GADM, geoBoundaries or Natural Earth, or else named by ``columns``. Of a file with GADM's
    layers, areas are admin 2; where a country has none, admin 1; where it has neither, the country. geoBoundaries'
    admin 2 doesn't say which admin 1 it is in: the area of ``admin_1_path`` that covers a point inside it does.
    Polygons come out valid, cut at longitude 180 and disjoint: what several cover is the smallest one's, and an area
    of which nothing is left goes. Disputed areas that no code of ISO 3166 stands for are left out, and ``source`` says
    so. ``InputError`` says what is wrong with a file and what to do about it.
    """
    _check_exists(path)
    if is_parquet(path) and is_finished(path):
        if layer or admin_1_path or columns:
            raise ValueError(f"{path}: layer, admin_1_path and columns are for other formats than write_boundaries'")
        return read_boundaries(Path(path))
    units = _disjoint(path, _read(path, layer, columns))
    if admin_1_path is not None:
        units = _with_admin_1(units, _read_admin_1(admin_1_path))
    if not len(units):
        raise InputError(f"{path} holds no areas of any country; give a file that has rows")
    without = f", without areas of no country: {', '.join(dict.fromkeys(units.left_out))}" if units.left_out else ""
    return Boundaries(
        polygons=units.polygons,
        countries=units.countries,
        admin_1=units.admin_1,
        admin_2=units.admin_2,
        source=Path(path).name + without,
        licence=units.licence,
    )


def _check_exists(path: str | Path) -> None:
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")


def _read(path: str | Path, layer: str | None, columns: BoundaryColumns | None) -> _Units:
    layers = polygon_layers(path)
    if layer is not None and layer not in layers:
        raise InputError(f"{path} has no layer {layer!r} with polygons; it has {', '.join(layers)}")
    if layer is not None or len(layers) == 1:
        return _read_layer(path, layer or layers[0], columns)
    levels = {found[1]: name for name in layers if (found := GADM_LAYER.fullmatch(name)) and found[1] <= "2"}
    if not levels:
        raise InputError(f"{path} has several layers with polygons; name one of {', '.join(layers)}")
    finest, *coarser = (levels[level] for level in sorted(levels, reverse=True))
    units = _read_layer(path, finest, columns)
    for name in coarser:
        units += _read_layer(path, name, columns, without=np.unique(units.codes.astype(str)).tolist())
    return units


def _read_admin_1(path: str | Path) -> _Units:
    _check_exists(path)
    layers = polygon_layers(path)
    found = layers if len(layers) == 1 else [name for name in layers if re.search(r"adm_?1$", name, re.IGNORECASE)]
    if len(found) != 1:
        raise InputError(f"{path}: none or several of its layers are called ADM1; it has {', '.join(layers)}")
    return _read_layer(path, found[0], None)


def _read_layer(path: str | Path, layer: str, columns: BoundaryColumns | None, without: Collection[str] = ()) -> _Units:
    """The layer's areas that have a country, valid and cut at longitude 180, but none of the codes ``without``."""
    opened = open_layer(path, layer)
    names = {name.lower(): name for name in opened.columns}
    schema = schema_of(path, names, columns)
    _check_crs(path, opened.crs, schema)
    wanted = sorted(schema.columns & set(names))
    rows, polygons = opened.read([names[column] for column in wanted], {names[schema.code]: without} if without else {})
    table = {column: _text(values) for column, values in zip(wanted, rows, strict=True)}
    return _units(path, schema, table, polygons)


def _check_crs(path: str | Path, crs: str | None, schema: Schema) -> None:
    if crs in DEGREES:
        return
    if crs and "undefined" not in crs.lower():
        name = crs.split('"')[1] if '"' in crs else crs
        raise InputError(
            f"{path} is in {name}, not in longitude and latitude of WGS 84; convert it: "
            + ("geopandas' to_crs(4326)" if is_parquet(path) else "ogr2ogr -t_srs EPSG:4326")
        )
    # Publishers, who have a licence here, use WGS 84 alone; but CGAZ comes from TopoJSON, which can't say so.
    if not schema.licence:
        raise InputError(
            f"{path} doesn't say in what system its coordinates are; if they are longitude and latitude of WGS 84, "
            "say so: " + ("geopandas' set_crs(4326)" if is_parquet(path) else "ogr2ogr -a_srs EPSG:4326")
        )


def _text(values: Shaped[np.ndarray, "a"]) -> Shaped[np.ndarray, "a"]:
    """Values as text on one line, empty where there are none."""
    missing = [value is None or (isinstance(value, float) and np.isnan(value)) for value in values]
    texts = ["" if no else " ".join(str(value).split()) for value, no in zip(values, missing, strict=True)]
    return np.array(texts, dtype=object)


def _units(
    path: str | Path,
    schema: Schema,
    table: Mapping[str, Shaped[np.ndarray, "a"]],
    polygons: Shaped[np.ndarray, "a"],
) -> _Units:
    """The areas of a table's rows; ``InputError`` where a country or a polygon is no good."""
    nothing = np.full(len(polygons), "", dtype=object)
    codes, name, level = (table.get(column, nothing) for column in (schema.code, schema.name, schema.level))
    disputed = level == "DISP"  # of CGAZ: codes are numbers, and names are all there is
    countries = countries_of(codes)
    for other in [table[column] for column in schema.others if column in table] + [np.where(disputed, name, "")]:
        countries = np.where(countries == "", countries_of(other), countries)
    units = _Units(
        polygons=polygons,
        codes=codes,
        countries=countries,
        admin_1=table.get(schema.admin_1, np.where(level == "ADM1", name, "")),
        admin_2=table.get(schema.admin_2, np.where(np.isin(level, ["ADM0", "ADM1", "DISP"]), "", name)),
        licence=schema.licence,
    )
    left_out = (countries == "") & (disputed | np.isin(codes, NO_COUNTRY))
    unknown = (countries == "") & ~left_out
    where = f'"{schema.code} NOT IN ({quoted(np.unique(codes[unknown].astype(str)))})"'
    remedy = f"correct the column {schema.code}, or leave them out: ogr2ogr -where {where}"
    units.refuse(path, unknown, "are of no country that ISO 3166 knows", remedy)
    units = replace(units, polygons=_cut(_valid(path, units)), left_out=tuple(np.where(name, name, codes)[left_out]))
    return _joined(units[~left_out], [table[column][~left_out] for column in schema.unit if column in table])


def _valid(path: str | Path, units: _Units) -> Shaped[np.ndarray, "a"]:
    """The polygons, repaired, without points and lines; ``InputError`` where they aren't areas in degrees."""
    polygons = units.polygons
    units.refuse(path, shapely.is_missing(polygons) | shapely.is_empty(polygons), "have no geometry", "delete them")
    _check_degrees(path, units, shapely.bounds(polygons))
    polygons = polygons.copy()
    beyond = (np.abs(shapely.bounds(polygons)) > [180, 90, 180, 90]).any(axis=1)
    polygons[beyond] = shapely.transform(polygons[beyond], _without_rounding)
    invalid = ~shapely.is_valid(polygons)
    polygons[invalid] = shapely.make_valid(polygons[invalid], method="structure", keep_collapsed=False)
    polygons = polygonal(polygons)
    units.refuse(path, shapely.area(polygons) == 0, "are points or lines", "delete them")
    return polygons


def _check_degrees(path: str | Path, units: _Units, bounds: Float64[np.ndarray, "a 4"]) -> None:
    x, y = np.abs(bounds[:, ::2]).max(axis=1), np.abs(bounds[:, 1::2]).max(axis=1)
    bad = ~((x <= 360) & (y <= 90 + ROUNDING_DEGREES))  # NaN is bad
    if (x > 360).any():
        remedy = "they look projected: say from what and convert them, ogr2ogr -s_srs ... -t_srs EPSG:4326"
    elif (x <= 90).all() and (y <= 180).all():
        remedy = "longitude and latitude look swapped: longitude comes first"
    else:
        remedy = "correct them"
    units.refuse(path, bad, "have coordinates that are no degrees of longitude and latitude", remedy)
    bad = np.zeros(len(bounds), bool)
    wide = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180)
    bad[wide] = [_leaps(polygon) for polygon in units.polygons[wide]]
    remedy = (
        "cut them there, ogr2ogr -wrapdateline, or if they are so wide give the edge points, ogr2ogr -segmentize 90"
    )
    units.refuse(path, bad, "have an edge over 180 degrees long, as across longitude 180", remedy)


def _leaps(polygon: shapely.Geometry) -> bool:
    """Whether an edge is longer than half the Earth, other than all round it or along a pole as Antarctica's."""
    lonlat, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(polygon)), return_index=True)
    length = np.abs(np.diff(lonlat[:, 0]))
    at_pole = np.minimum(np.abs(lonlat[1:, 1]), np.abs(lonlat[:-1, 1])) > 89
    return bool(((length > 180) & (length < 360) & ~at_pole & (np.diff(ring) == 0)).any())


def _without_rounding(lonlat: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    excess = np.abs(lonlat) - [180, 90]
    return np.where((excess > 0) & (excess <= ROUNDING_DEGREES), np.sign(lonlat) * [180, 90], lonlat)


def _cut(polygons: Shaped[np.ndarray, "a"]) -> Shaped[np.ndarray, "a"]:
    """The polygons with what lies beyond longitude +-180 brought to the other side."""
    polygons = polygons.copy()
    bounds = shapely.bounds(polygons)
    for row in np.flatnonzero((bounds[:, 0] < -180) | (bounds[:, 2] > 180)):
        worlds = [shapely.box(west, -90, west + 360, 90) for west in (-540, -180, 180)]
        parts = polygonal(shapely.intersection(polygons[row], np.array(worlds, dtype=object)))
        shifted = [translate(part, turn) for part, turn in zip(parts, (360, 0, -360), strict=True)]
        polygons[row] = shapely.union_all(shifted)
    return polygons


def _joined(units: _Units, keys: list[Shaped[np.ndarray, "a"]]) -> _Units:
    """The units that agree in all keys as one: GADM's single layer has a row for each area of its finest level."""
    if not keys:
        return units
    _, first, number, counts = np.unique(
        np.array(["\t".join(key) for key in zip(*keys, strict=True)]),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(counts)[:-1])
    polygons = units.polygons.copy()
    for rows in members:
        if len(rows) > 1:
            polygons[rows[0]] = shapely.union_all(units.polygons[rows])
    return replace(units, polygons=polygons)[np.sort(first)]


def _disjoint(path: str | Path, units: _Units) -> _Units:
    """The units as a coverage: without overlaps, and with the same vertices along common borders."""
    if shapely.coverage_is_valid(units.polygons):
        return units
    # GEOS' own min_area goes by what it has given to an area so far: a whole takes some of its parts' places.
    smallest_first = np.argsort(shapely.area(units.polygons), kind="stable")
    cleaned = units.polygons.copy()
    try:
        with np.errstate(invalid="ignore"):  # of NaN that GEOS meets on its way; what comes out is finite
            cleaned[smallest_first] = shapely.coverage_clean(
                units.polygons[smallest_first], gap_width=0, merge_strategy="min_index"
            )
    except shapely.errors.GEOSException as error:
        raise InputError(f"{path}: its areas overlap in a way that can't be cleaned: {error}") from error
    return replace(units, polygons=cleaned)[~shapely.is_empty(cleaned)]


def _with_admin_1(units: _Units, areas: _Units) -> _Units:
    """The units, named where they have no admin 1 after the area of their country that covers a point inside them."""
    names = np.where(areas.admin_1 == "", areas.admin_2, areas.admin_1)
    inside = shapely.get_coordinates(shapely.point_on_surface(units.polygons))[:, ::-1]
    admin_1 = units.admin_1.copy()
    for country in np.unique(units.countries[admin_1 == ""].astype(str)):
        rows = np.flatnonzero((units.countries == country) & (admin_1 == ""))
        candidates = np.flatnonzero(areas.countries == country)
        found = Areas(areas.polygons[candidates]).covering(inside[rows])
        admin_1[rows[found >= 0]] = names[candidates[found[found >= 0]]]
    return replace(units, admin_1=admin_1)
