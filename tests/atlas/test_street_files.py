"""Street graphs in every format that is read, and what is said of files that can't be."""

import csv
import json

import networkx
import numpy as np
import osmium
import pyogrio
import pyproj
import pytest
import shapely

from geo_ray.atlas.street_files import StreetColumns, area_of, names_of, read_streets, utm_latlon
from geo_ray.atlas.streets import Cutting, cut_streets
from geo_ray.errors import InputError
from tests.atlas.street_graphs import said

PLACES = {"1": (40.0, -80.0), "2": (40.001, -80.0), "3": (40.002, -80.0), "4": (40.001, -79.999)}
EDGES = [("1", "2", "Main"), ("2", "3", "Main"), ("2", "4", "Side")]
EXPECTED = [("Main", ("Side",), 1), ("Main", ("Side",), 1), ("Side", ("Main",), 1)]


def check(graph):
    assert said(cut_streets(graph, Cutting(min_points=0))) == EXPECTED


def write_tables(folder, edges=EDGES, header=("u", "v", "name"), hood="A"):
    with (folder / "edges.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *edges])
    with (folder / "nodes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["osmid", "lat", "lon", "district"], *([n, *p, hood] for n, p in PLACES.items())])
    return [str(folder / "edges.csv"), str(folder / "nodes.csv")]


def test_tables_in_either_order(tmp_path):
    paths = write_tables(tmp_path)
    for given in (paths, paths[::-1]):
        graph = read_streets(given)
        check(graph)
        assert graph.neighbourhoods.tolist() == ["A"] * 4


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("Main", ("Main",)), (" ", ()), ("nan", ()), (None, ()), (float("nan"), ()), ("['A', 'B']", ("A", "B")),
        ("A;B; A", ("A", "B")), (["A", "B"], ("A", "B")), ("[broken", ("[broken",)),
        ("O'Hara  Street", ("O'Hara Street",)),
    ],
)  # fmt: skip
def test_names_in_a_cell(cell, names):
    assert names_of(cell) == names


def test_an_edge_given_in_both_directions_is_one_and_parallel_ones_are_two(tmp_path):
    header = ("u", "v", "name", "length")
    both = [("1", "2", "Main", "111.0"), ("2", "1", "Main", "111.0"), ("1", "2", "Main", "140.0")]
    assert len(read_streets(write_tables(tmp_path, both, header)).names) == 2


def test_geometry_in_a_table_is_the_edges_course(tmp_path):
    line = "LINESTRING (-80 40, -80.001 40.0005, -80 40.001)"
    paths = write_tables(tmp_path, [("1", "2", "Main", line)], ("u", "v", "name", "geometry"))
    assert len(read_streets(paths).lines[0].coords) == 3


@pytest.mark.parametrize(
    ("edges", "header", "message"),
    [
        ([("1", "9", "Main")], ("u", "v", "name"), "row 1 names the node '9', which .*nodes.csv lacks"),
        ([("1", "2", "Main")], ("u", "v", "way"), "has no column of name"),
        ([("1", "2", "Main")], ("a", "b", "name"), "has columns of edges"),
        ([("1", "2", " ")], ("u", "v", "name"), "none of its 1 edges has a name"),
        ([("1", "2", "Main", "POINT (1 2)")], ("u", "v", "name", "geometry"), "holds a Point, not a LineString"),
        ([("1", "2", "Main", "LINE")], ("u", "v", "name", "geometry"), "no WKT"),
    ],
)
def test_bad_tables_are_named(tmp_path, edges, header, message):
    with pytest.raises(InputError, match=message):
        read_streets(write_tables(tmp_path, edges, header))


def test_bad_degrees_and_missing_files_are_named(tmp_path):
    paths = write_tables(tmp_path)
    (tmp_path / "nodes.csv").write_text("osmid,lat,lon\n1,x,-80\n2,40,-80\n3,40,-80\n4,40,-80\n")
    with pytest.raises(InputError, match="'x', '-80' are no degrees"):
        read_streets(paths)
    with pytest.raises(InputError, match="no such file"):
        read_streets([str(tmp_path / "none.graphml")])
    with pytest.raises(InputError, match="3 files"):
        read_streets([*paths, paths[0]])


def test_another_column_of_names(tmp_path):
    paths = write_tables(tmp_path, EDGES, ("u", "v", "rue"))
    check(read_streets(paths, StreetColumns(name="rue")))


def test_graphml_as_osmnx_saves_it(tmp_path):
    graph = networkx.MultiDiGraph()
    for node, (lat, lon) in PLACES.items():
        graph.add_node(node, y=str(lat), x=str(lon), street_count="3")
    for a, b, name in EDGES:  # both directions, each with its course
        course = shapely.LineString([PLACES[a][::-1], PLACES[b][::-1]])
        graph.add_edge(a, b, name=name, geometry=course.wkt, oneway="False")
        graph.add_edge(b, a, name=name, geometry=course.reverse().wkt, oneway="False")
    graph.add_edge("3", "4", osmid="7")
    networkx.write_graphml(graph, tmp_path / "city.graphml")
    read = read_streets([str(tmp_path / "city.graphml")])
    check(read)
    assert len(read.names) == 4
    (tmp_path / "bad.graphml").write_text("<graphml")
    with pytest.raises(InputError, match="no readable GraphML"):
        read_streets([str(tmp_path / "bad.graphml")])


def lines_and_names():
    lines = [shapely.LineString([PLACES[a][::-1], PLACES[b][::-1]]) for a, b, _ in EDGES]
    return np.array(lines), np.array([name for *_, name in EDGES], dtype=object)


@pytest.mark.parametrize(
    ("suffix", "crs"), [(".gpkg", "EPSG:4326"), (".gpkg", "EPSG:32617"), (".geojson", "EPSG:4326")]
)
def test_lines_of_a_gis_in_degrees_or_metres(tmp_path, suffix, crs):
    lines, names = lines_and_names()
    if crs != "EPSG:4326":
        to_metres = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        lines = shapely.transform(lines, lambda xy: np.stack(to_metres.transform(xy[:, 0], xy[:, 1]), axis=1))
    path = str(tmp_path / f"city{suffix}")
    pyogrio.raw.write(path, shapely.to_wkb(lines), [names], ["Street_Name"], layer="edges", geometry_type="LineString",
                      crs=crs)  # fmt: skip
    check(read_streets([path]))
    with pytest.raises(InputError, match="no column of names; name one of street_name"):
        read_streets([path], StreetColumns(name="rue"))


def test_a_file_without_lines_is_refused(tmp_path):
    path = str(tmp_path / "points.geojson")
    point = {"type": "Point", "coordinates": [0, 0]}
    (tmp_path / "points.geojson").write_text(json.dumps(
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": point}]}
    ))  # fmt: skip
    with pytest.raises(InputError, match="no layer of lines"):
        read_streets([path])


def test_an_extract_of_openstreetmap_is_cut_where_ways_meet(tmp_path):
    path = str(tmp_path / "city.osm.pbf")
    with osmium.SimpleWriter(path) as writer:
        for node, (lat, lon) in PLACES.items():
            writer.add_node(osmium.osm.mutable.Node(id=int(node), location=(lon, lat)))
        tags = {"highway": "residential"}
        writer.add_way(osmium.osm.mutable.Way(id=1, nodes=[1, 2, 3], tags=tags | {"name": "Main"}))
        writer.add_way(osmium.osm.mutable.Way(id=2, nodes=[2, 4], tags=tags | {"name": "Side"}))
        writer.add_way(osmium.osm.mutable.Way(id=3, nodes=[3, 4], tags={"highway": "footway", "name": "Path"}))
        writer.add_way(osmium.osm.mutable.Way(id=4, nodes=[1, 4], tags={"building": "yes"}))
    check(read_streets([path]))
    (tmp_path / "bad.osm.pbf").write_bytes(b"no")
    with pytest.raises(InputError, match="can't be read as OpenStreetMap's data"):
        read_streets([str(tmp_path / "bad.osm.pbf")])


def squares(path, **names):
    features = [
        {"type": "Feature", "properties": {"name": name},
         "geometry": shapely.geometry.mapping(shapely.box(*bounds))} for name, bounds in names.items()
    ]  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def test_neighbourhoods_and_areas_by_polygons(tmp_path):
    path = squares(tmp_path / "hoods.geojson", North=(-80.1, 40.0005, -79.9, 40.1), South=(-80.1, 39.9, -79.9, 40.0005))
    graph = read_streets(write_tables(tmp_path, hood=""), neighbourhoods=path)
    assert graph.neighbourhoods.tolist() == ["South", "North", "North", "North"]
    assert area_of(path).bounds == pytest.approx((-80.1, 39.9, -79.9, 40.1))
    with pytest.raises(InputError, match="name one of name"):
        read_streets(write_tables(tmp_path), StreetColumns(neighbourhood="quarter"), neighbourhoods=path)


def test_utm_in_two_zones_and_in_the_south():
    places = np.array([[40.0, -78.01], [40.0, -77.99], [-33.9, 18.4]])
    zones, northern = (17, 18, 34), (True, True, False)
    east, north = [], []
    for (lat, lon), zone, is_north in zip(places, zones, northern, strict=True):
        code = (32600 if is_north else 32700) + zone
        x, y = pyproj.Transformer.from_crs("EPSG:4326", f"EPSG:{code}", always_xy=True).transform(lon, lat)
        east.append(x)
        north.append(y)
    assert np.allclose(utm_latlon(np.array(east), np.array(north), zones, northern), places, atol=1e-9)
