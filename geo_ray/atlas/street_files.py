"""Street graphs from files: tables of edges and nodes, OSMnx's GraphML, lines of any GIS, and .osm.pbf."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float64, Shaped

from geo_ray.atlas.boundary_layers import open_layer, polygon_layers
from geo_ray.atlas.streets import StreetGraph
from geo_ray.errors import InputError, MissingDataError
from geo_ray.tables.text import column_names, read_pieces

# Names that files have for what is read, in small letters; the first that is there is taken.
EDGE_COLUMNS = {
    "from": ("from_", "from", "u", "source", "start", "start_node", "from_node"),
    "to": ("to", "to_", "v", "target", "end", "end_node", "to_node"),
    "name": ("name", "street", "street_name", "streetname", "fullname", "full_name", "st_name"),
    "geometry": ("geometry", "wkt", "the_geom"),
    "length": ("length", "length_m", "shape_length"),
}
NODE_COLUMNS = {
    "id": ("osmid", "id", "node_id", "node", "fid"),
    "latitude": ("lat", "latitude", "y"),
    "longitude": ("lon", "lng", "long", "longitude", "x"),
    "neighbourhood": ("ngh_name", "neighbourhood", "neighborhood", "hood", "district", "quarter", "suburb"),
}
NO_STREETS = (  # values of "highway" in OpenStreetMap that nobody's address is on
    "footway", "path", "cycleway", "steps", "bridleway", "corridor", "elevator", "platform", "track", "proposed",
    "construction", "raceway", "bus_guideway", "via_ferrata",
)  # fmt: skip
SNAP_DEGREES = 7  # decimals, 1 cm, to which ends of lines must agree to meet
BLANKS = ("", "nan", "none", "null", "[]")


@dataclass(frozen=True, kw_only=True)
class StreetColumns:
    """Names of columns where they aren't any of the usual ones."""

    name: str = ""
    neighbourhood: str = ""


def read_streets(paths: Sequence[str], columns: StreetColumns | None = None, neighbourhoods: str = "") -> StreetGraph:
    """The street graph in a file, or in a table of edges and one of nodes, in either order.

    ``neighbourhoods`` is a file of polygons with names, by which nodes get theirs. An edge that is given in both
    directions is one edge. ``InputError`` says what is wrong with a file and what to do.
    """
    columns = columns or StreetColumns()
    for path in paths:
        if not Path(path).exists():
            raise InputError(f"{path}: no such file")
    if len(paths) == 2:
        graph = _of_tables(paths, columns)
    elif len(paths) == 1:
        suffix = "".join(Path(paths[0]).suffixes[-2:]).lower()
        reader = next((read for ending, read in READERS.items() if suffix.endswith(ending)), _of_lines)
        graph = reader(paths[0], columns)
    else:
        raise InputError(f"{len(paths)} files; give one file of streets, or a table of edges and one of nodes")
    return _with_neighbourhoods(graph, neighbourhoods, columns) if neighbourhoods else graph


def names_of(value: Any) -> tuple[str, ...]:
    """The names in a cell: one, several with semicolons as in OpenStreetMap, or a list as Python or OSMnx writes it."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ()
    if not isinstance(value, str):
        return tuple(dict.fromkeys(name for each in value for name in names_of(each)))
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            return names_of(list(ast.literal_eval(text)))
        except (ValueError, SyntaxError, TypeError):
            pass
    parts = (" ".join(part.split()) for part in text.split(";"))
    return tuple(dict.fromkeys(part for part in parts if part.lower() not in BLANKS))


def _of_tables(paths: Sequence[str], columns: StreetColumns) -> StreetGraph:
    headers = {path: [name.strip().lower() for name in column_names(path)] for path in paths}
    edges = next((path for path in paths if _named(headers[path], "to") and _named(headers[path], "from")), None)
    if edges is None:
        raise InputError(f"neither {paths[0]} nor {paths[1]} has columns of edges, such as from and to, or u and v")
    nodes = next(path for path in paths if path != edges)
    at = _read(nodes, NODE_COLUMNS | _told("neighbourhood", columns.neighbourhood), ("id", "latitude", "longitude"))
    held = _read(edges, EDGE_COLUMNS | _told("name", columns.name), ("from", "to", "name"))
    latlon = np.array([_degrees(nodes, pair) for pair in zip(at["latitude"], at["longitude"], strict=True)])
    row_of = {node.strip(): row for row, node in enumerate(at["id"])}
    ends = np.empty((len(held["to"]), 2), np.int64)
    for row, pair in enumerate(zip(held["from"], held["to"], strict=True)):
        for side, node in enumerate(pair):
            if node.strip() not in row_of:
                raise InputError(f"{edges}: row {row + 1} names the node {node!r}, which {nodes} lacks")
            ends[row, side] = row_of[node.strip()]
    lines = np.asarray(shapely.linestrings(latlon.reshape(-1, 2)[ends][:, :, ::-1]), dtype=object)
    for row, text in enumerate(held.get("geometry", ())):
        if text.strip():
            lines[row] = _line(edges, row, text)
    blank = [""] * len(latlon)
    graph = StreetGraph(
        latlon=latlon.reshape(-1, 2), neighbourhoods=_texts(at.get("neighbourhood", blank)), ends=ends,
        names=[names_of(text) for text in held["name"]], lines=lines, source=edges,
    )  # fmt: skip
    return _once(graph, held.get("length"))


def _told(name: str, column: str) -> dict[str, tuple[str, ...]]:
    return {name: (column.lower(),)} if column else {}


def _named(header: Sequence[str], role: str) -> bool:
    return any(name in header for name in EDGE_COLUMNS[role])


def _read(path: str, columns: Mapping[str, tuple[str, ...]], needed: Sequence[str]) -> dict[str, list[str]]:
    """The cells of a table by role; ``InputError`` where a needed column isn't there."""
    present = [name.strip().lower() for name in column_names(path)]
    missing = [role for role in needed if not any(name in present for name in columns[role])]
    if missing:
        raise InputError(
            f"{path} has no column of {missing[0]} ({', '.join(columns[missing[0]])}); it has {', '.join(present)}"
        )
    there = {role: names for role, names in columns.items() if any(name in present for name in names)}
    found: dict[str, list[str]] = {role: [] for role in there}
    for piece in read_pieces(path, there):
        for role in there:
            found[role] += [str(value) for value in piece[role]]
    return found


def _degrees(path: str, pair: tuple[str, str]) -> tuple[float, float]:
    try:
        return float(pair[0]), float(pair[1])
    except ValueError as error:
        raise InputError(f"{path}: {pair[0]!r}, {pair[1]!r} are no degrees; mend the row or leave it out") from error


def _line(path: str, row: int, text: str) -> shapely.LineString:
    try:
        line = shapely.from_wkt(text)
    except shapely.GEOSException as error:
        raise InputError(f"{path}: row {row + 1} holds geometry that is no WKT ({error})") from error
    if not isinstance(line, shapely.LineString):
        raise InputError(f"{path}: row {row + 1} holds a {type(line).__name__}, not a LineString")
    return shapely.force_2d(line)


def _texts(values: Sequence[Any]) -> Shaped[np.ndarray, "n"]:
    """The first name in each cell, or empty."""
    return np.array([(*names_of(value), "")[0] for value in values], dtype=object)


def _of_graphml(path: str, columns: StreetColumns) -> StreetGraph:
    """As OSMnx saves one: nodes with x and y, edges with name and, where they bend, geometry."""
    import networkx

    try:
        graph = networkx.MultiDiGraph(networkx.read_graphml(path))
    except Exception as error:  # of the XML parser, and whatever networkx runs into
        raise InputError(f"{path} is no readable GraphML ({error})") from error
    try:
        latlon = np.array([(float(data["y"]), float(data["x"])) for _, data in graph.nodes(data=True)])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: each node needs x and y in degrees, as OSMnx writes them ({error!r})") from error
    row_of = {node: row for row, node in enumerate(graph.nodes)}
    held = [(row_of[a], row_of[b], data) for a, b, data in graph.edges(data=True)]
    ends = np.array([(a, b) for a, b, _ in held], np.int64).reshape(-1, 2)
    lines = [
        _line(path, row, str(data["geometry"])) if "geometry" in data else shapely.LineString(latlon[[a, b], ::-1])
        for row, (a, b, data) in enumerate(held)
    ]
    wanted = (columns.neighbourhood,) if columns.neighbourhood else NODE_COLUMNS["neighbourhood"]
    hoods = [next((data[name] for name in wanted if name in data), "") for _, data in graph.nodes(data=True)]
    name = columns.name or "name"
    graph = StreetGraph(
        latlon=latlon.reshape(-1, 2), neighbourhoods=_texts(hoods), ends=ends,
        names=[names_of(data.get(name)) for _, _, data in held], lines=np.array(lines, dtype=object), source=path,
    )  # fmt: skip
    return _once(graph)


def _of_lines(path: str, columns: StreetColumns) -> StreetGraph:
    """The lines of a GeoPackage (OSMnx's: its layer "edges"), GeoJSON and so on; they meet where their ends agree."""
    with _needed(path, "pyogrio", "gis"):
        from pyogrio import errors, list_layers, raw
    try:
        layers = {str(name): str(kind) for name, kind in list_layers(path)}
        fitting = [name for name, kind in layers.items() if "Line" in kind or "Curve" in kind]
        if not fitting:
            held = ", ".join(f"{name}: {kind}" for name, kind in layers.items())
            raise InputError(f"{path} has no layer of lines ({held}); give a file of streets")
        layer = "edges" if "edges" in fitting else fitting[0]
        meta, _, wkb, values = raw.read(path, layer=layer, force_2d=True)
    except (errors.DataSourceError, errors.DataLayerError, errors.FeatureError) as error:
        raise InputError(f"{path} can't be read as streets: {' '.join(str(error).split())}") from error
    fields = {str(name).lower(): column for name, column in zip(meta["fields"], values, strict=True)}
    wanted = (columns.name.lower(),) if columns.name else EDGE_COLUMNS["name"]
    name = next((name for name in wanted if name in fields), None)
    if name is None:
        raise InputError(f"{path} has no column of names; name one of {', '.join(fields)} with --name-column")
    lines = _in_degrees(np.asarray(shapely.from_wkb(wkb)), meta["crs"], path)
    parts, rows = shapely.get_parts(lines, return_index=True)
    return _of_courses(list(parts), [names_of(fields[name][row]) for row in rows.tolist()], path)


def _in_degrees(lines: Shaped[np.ndarray, "n"], crs: str | None, path: str) -> Shaped[np.ndarray, "n"]:
    if crs in (None, "EPSG:4326", "OGC:CRS84"):
        return lines
    with _needed(path, "pyproj", "gis"):
        import pyproj
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return np.asarray(shapely.transform(lines, lambda xy: np.stack(to_degrees.transform(xy[:, 0], xy[:, 1]), axis=1)))


def _of_courses(lines: Sequence[Any], names: Sequence[tuple[str, ...]], source: str) -> StreetGraph:
    """A graph of lines whose ends are its nodes."""
    kept = [row for row, line in enumerate(lines) if line is not None and not line.is_empty]
    held = np.array([lines[row] for row in kept], dtype=object)
    both = np.stack([shapely.get_coordinates(shapely.get_point(held, at)) for at in (0, -1)], axis=1)
    nodes, at = np.unique(both.reshape(-1, 2).round(SNAP_DEGREES), axis=0, return_inverse=True)
    graph = StreetGraph(
        latlon=np.ascontiguousarray(nodes[:, ::-1]), neighbourhoods=np.full(len(nodes), "", dtype=object),
        ends=at.reshape(-1, 2).astype(np.int64), names=[names[row] for row in kept], lines=held, source=source,
    )  # fmt: skip
    return _once(graph)


def _of_pbf(path: str, columns: StreetColumns) -> StreetGraph:
    """The ways of OpenStreetMap that streets may be, cut where they meet."""
    with _needed(path, "osmium", "osm"):
        import osmium
    ways: list[tuple[list[int], list[tuple[float, float]], tuple[str, ...]]] = []
    try:
        found = osmium.FileProcessor(path, osmium.osm.NODE | osmium.osm.WAY).with_locations()
        for way in found.with_filter(osmium.filter.KeyFilter("highway")):
            if isinstance(way, osmium.osm.Way) and _is_street(way.tags):
                there = [node for node in way.nodes if node.location.valid()]
                if len(there) > 1:
                    ways.append(([node.ref for node in there], [(node.lon, node.lat) for node in there],
                                 names_of(way.tags.get(columns.name or "name"))))  # fmt: skip
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path} can't be read as OpenStreetMap's data: {error}") from error
    times = Counter(node for nodes, _, _ in ways for node in nodes)
    lines, names = [], []
    for nodes, places, name in ways:
        cuts = [at for at in range(1, len(nodes) - 1) if times[nodes[at]] > 1]
        for start, stop in zip([0, *cuts], [*cuts, len(nodes) - 1], strict=True):
            lines.append(shapely.LineString(places[start : stop + 1]))
            names.append(name)
    if not lines:
        raise InputError(f"{path} holds no streets: no way with a highway tag whose nodes are in it")
    return _of_courses(lines, names, path)


def _is_street(tags: Any) -> bool:
    return tags["highway"] not in NO_STREETS and tags.get("area") != "yes"


READERS = {".graphml": _of_graphml, ".osm.pbf": _of_pbf, ".pbf": _of_pbf, ".osm": _of_pbf}


def _once(graph: StreetGraph, lengths: Sequence[str] | None = None) -> StreetGraph:
    """The graph without the second direction of an edge that has both: the same ends, names, course and length."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    lengths = [""] * len(graph.names) if lengths is None else lengths
    held = zip(graph.ends.tolist(), graph.names, graph.lines, lengths, strict=True)
    for row, (ends, names, line, length) in enumerate(held):
        course = shapely.get_coordinates(line).round(SNAP_DEGREES)
        key = (*sorted(ends), names, min(course.tobytes(), course[::-1].tobytes()), length.strip())
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return replace(graph, ends=graph.ends[kept], names=[graph.names[row] for row in kept], lines=graph.lines[kept])


def _with_neighbourhoods(graph: StreetGraph, path: str, columns: StreetColumns) -> StreetGraph:
    """The graph with each node in the polygon that holds it; nodes that none holds keep what they have."""
    polygons, names = read_neighbourhoods(path, columns.neighbourhood)
    rows, area = shapely.STRtree(polygons).query(shapely.points(graph.latlon[:, ::-1]), predicate="intersects")
    hoods = graph.neighbourhoods.copy()
    hoods[rows] = names[area]
    return replace(graph, neighbourhoods=hoods)


def read_neighbourhoods(path: str, column: str = "") -> tuple[Shaped[np.ndarray, "a"], Shaped[np.ndarray, "a"]]:
    """Polygons in degrees and their names, of any format of GDAL or GeoParquet."""
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")
    layer = open_layer(path, polygon_layers(path)[0])
    wanted = (column,) if column else (*NODE_COLUMNS["neighbourhood"], "name")
    by_small = {name.lower(): name for name in layer.columns}
    name = next((by_small[each.lower()] for each in wanted if each.lower() in by_small), None)
    if name is None:
        raise InputError(f"{path} has no column of names; name one of {', '.join(layer.columns)} with "
                         "--neighbourhood-column")  # fmt: skip
    (values,), polygons = layer.read([name], {})
    return _in_degrees(polygons, layer.crs, path), _texts(values.tolist())


def area_of(path: str) -> shapely.Geometry:
    """All polygons of a file as one area, in degrees, longitude first."""
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")
    layer = open_layer(path, polygon_layers(path)[0])
    _, polygons = layer.read([], {})
    return shapely.union_all(_in_degrees(polygons, layer.crs, path))


def utm_latlon(
    east_m: Float64[np.ndarray, "n"], north_m: Float64[np.ndarray, "n"], zones: Sequence[int], northern: Sequence[bool]
) -> Float64[np.ndarray, "n 2"]:
    """Degrees of UTM coordinates, each in its zone."""
    with _needed("UTM coordinates", "pyproj", "gis"):
        import pyproj
    found = np.empty((len(east_m), 2))
    codes = np.array([(32600 if north else 32700) + zone for zone, north in zip(zones, northern, strict=True)])
    for code in np.unique(codes).tolist():
        rows = codes == code
        to_degrees = pyproj.Transformer.from_crs(f"EPSG:{code}", "EPSG:4326", always_xy=True)
        longitude, latitude = to_degrees.transform(east_m[rows], north_m[rows])
        found[rows] = np.stack([latitude, longitude], axis=1)
    return found


@contextmanager
def _needed(path: str, package: str, extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingDataError(f"reading {path} needs {package}: pip install 'geo-ray[{extra}]'") from error
