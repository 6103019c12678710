"""Boundaries in anyone's GeoParquet are those of the same data in a GeoPackage."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely import box

from geo_ray.atlas.boundary_files import load_boundaries
from geo_ray.atlas.geoparquet import crs_name
from geo_ray.errors import InputError, MissingDataError
from tests.boundary_layers import geojson, geoparquet, names, write

pytest.importorskip("pycountry")

# Two that overlap, one across longitude 180, and one that crosses itself.
POLYGONS = [
    box(7.0, 43.5, 7.42, 44.0),
    box(7.40, 43.72, 7.44, 43.76),
    box(175, -20, 190, -10),
    shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]),
]
OWN = [
    {"iso": "FRA", "country": "France", "admin_1": "PACA", "admin_2": "Nice"},
    {"iso": "MCO", "country": "monaco", "admin_1": "", "admin_2": "Monaco-Ville"},
    {"iso": "FJI", "country": "FJI", "admin_1": None, "admin_2": "  Vanua \n Levu"},
    {"iso": "GHA", "country": "gh", "admin_1": "x", "admin_2": "y"},
]
GADM = [
    {"GID_0": row["iso"], "COUNTRY": "?", "GID_1": f"{number}.1", "NAME_1": row["admin_1"], "GID_2": f"{number}.2",
     "NAME_2": row["admin_2"]}
    for number, row in enumerate(OWN)
]  # fmt: skip
LOWER = [{name.lower(): value for name, value in row.items()} for row in GADM]
ROWS = list(zip(OWN, POLYGONS, strict=True))
PROJJSON = {"type": "GeographicCRS", "name": "WGS 84", "id": {"authority": "EPSG", "code": 4326}}
MERCATOR = {"type": "ProjectedCRS", "name": "WGS 84 / Pseudo-Mercator", "base_crs": PROJJSON}


def coordinates(polygon, interleaved):
    """A polygon's rings as GeoArrow has them."""
    rings = [shapely.get_coordinates(ring).tolist() for ring in shapely.get_rings(polygon)]
    return [[xy if interleaved else dict(zip("xy", xy, strict=True)) for xy in ring] for ring in rings]


def native(kind, polygons, *, interleaved=False):
    """A column of GeoArrow: nested lists of vertices."""
    point = pa.list_(pa.float64(), 2) if interleaved else pa.struct([("x", pa.float64()), ("y", pa.float64())])
    rings = pa.list_(pa.list_(point))
    values = [None if polygon is None else coordinates(polygon, interleaved) for polygon in polygons]
    if kind == "polygon":
        return pa.array(values, rings)
    return pa.array([value and [value] for value in values], pa.list_(rings))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a GeoPackage of our own columns gives."""
    return load_boundaries(write(tmp_path_factory.mktemp("gpkg") / "a.gpkg", ROWS))


def assert_same(found, expected):
    assert names(found) == names(expected)
    assert shapely.equals(found.polygons, expected.polygons).all()
    assert not shapely.has_z(found.polygons).any()


def test_the_geopackage_is_right(expected):
    assert names(expected) == [
        ("FR", "PACA", "Nice"), ("MC", "", "Monaco-Ville"), ("FJ", "", "Vanua Levu"), ("GH", "x", "y"),
    ]  # fmt: skip
    assert expected.polygons[0].equals(POLYGONS[0] - POLYGONS[1])
    assert shapely.bounds(expected.polygons[2]).tolist() == [-180, -20, 180, -10]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crs": PROJJSON},
        {"crs": {"type": "GeographicCRS", "name": "WGS 84"}},
        {"crs": 'GEOGCRS["WGS 84",ENSEMBLE["x",ID["EPSG",6326]],ID["EPSG",4326]]'},  # geopandas 0.9
        {"name": "geom", "group": 1},
        {"values": native("polygon", POLYGONS), "encoding": "polygon"},
        {"values": native("multipolygon", POLYGONS, interleaved=True), "encoding": "multipolygon"},
        {"values": pa.array(shapely.to_wkb(shapely.force_3d(POLYGONS, 9.0)), pa.large_binary())},
    ],
    ids=["default", "projjson", "no code", "wkt", "geom", "polygon", "interleaved", "heights"],
)
@pytest.mark.parametrize("name", ["a.parquet", "b.GeoParquet", "c.pq", "without_suffix"])
def test_geoparquet_is_as_the_geopackage(tmp_path, expected, name, options):
    found = load_boundaries(geoparquet(tmp_path / name, ROWS, **options))
    assert_same(found, expected)
    assert (found.source, found.licence) == (name, "")


@pytest.mark.parametrize("attributes", [GADM, LOWER], ids=["upper", "lower"])
def test_publishers_columns(tmp_path, expected, attributes):
    rows = list(zip(attributes, POLYGONS, strict=True))
    for path in (geoparquet(tmp_path / "a.parquet", rows), write(tmp_path / "a.gpkg", rows)):
        found = load_boundaries(path)
        assert_same(found, expected)
        assert found.licence.startswith("GADM")


def test_no_publisher_and_no_system_of_coordinates(tmp_path, expected):
    """Null is not known, which is no default; a publisher's is WGS 84."""
    for number, options in enumerate([{"crs": None}, {"metadata": False}]):
        path = geoparquet(tmp_path / f"{number}.parquet", ROWS, **options)
        with pytest.raises(InputError, match=r"doesn't say in what system .* say so: geopandas' set_crs\(4326\)$"):
            load_boundaries(path)
        assert_same(load_boundaries(geoparquet(path, list(zip(GADM, POLYGONS, strict=True)), **options)), expected)


def test_geoarrow_says_itself_what_it_is(tmp_path, expected):
    told = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": json.dumps({"crs": PROJJSON})}
    path = geoparquet(tmp_path / "a.parquet", ROWS, name="shape", metadata=False)
    table = pq.read_table(path)
    table = table.cast(table.schema.set(4, pa.field("shape", pa.binary(), metadata=told)))
    pq.write_table(table, path)
    assert_same(load_boundaries(path), expected)


def test_a_folder_of_parts_with_the_country_in_its_names(tmp_path, expected):
    for number, (attributes, polygon) in enumerate(ROWS):
        part = tmp_path / "areas" / f"country={attributes['country']}"
        part.mkdir(parents=True)
        geoparquet(part / "0.parquet", [({"n": number, "admin_1": attributes["admin_1"] or "",
                                          "admin_2": attributes["admin_2"]}, polygon)])  # fmt: skip
    (tmp_path / "areas" / "_SUCCESS").touch()
    assert set(names(load_boundaries(tmp_path / "areas"))) == set(names(expected))


def test_dictionaries_numbers_and_no_admin_2(tmp_path):
    path = geoparquet(tmp_path / "a.parquet", [({"country": "FR", "admin_1": 93}, POLYGONS[0])])
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "Country", table.column("country").dictionary_encode()), path)
    assert names(load_boundaries(path)) == [("FR", "93", "")]


def test_admin_1_may_be_geoparquet(tmp_path):
    units = geojson(tmp_path / "a.geojson", [({"shapeGroup": "FRA", "shapeName": "Nice", "shapeType": "ADM2"},
                                               POLYGONS[0])])  # fmt: skip
    states = geoparquet(tmp_path / "b.parquet", [({"country": "FR", "admin_1": "PACA"}, box(5, 42, 9, 45))])
    assert names(load_boundaries(units, admin_1_path=states)) == [("FR", "PACA", "Nice")]


@pytest.mark.parametrize("crs", [MERCATOR | {"id": {"authority": "EPSG", "code": 3857}}, MERCATOR])
def test_other_systems_are_refused(tmp_path, crs):
    path = geoparquet(tmp_path / "a.parquet", ROWS, crs=crs)
    with pytest.raises(InputError, match=r"a.parquet is in (EPSG:3857|WGS 84 / P.*), .*geopandas' to_crs\(4326\)$"):
        load_boundaries(path)


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        (None, None),
        ({}, None),
        (PROJJSON, "EPSG:4326"),
        (MERCATOR, "WGS 84 / Pseudo-Mercator"),
        ({"type": "BoundCRS", "source_crs": {"name": "DHDN"}}, "DHDN"),
        ({"type": "GeographicCRS"}, "a system without a name"),
        (json.dumps(PROJJSON), "EPSG:4326"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "OGC:CRS84"),
        ("http://www.opengis.net/def/crs/EPSG/0/3857", "EPSG:3857"),
        ('GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984"]]', "OGC:CRS84"),
        ('PROJCS["x",AUTHORITY["EPSG","2154"]]', "EPSG:2154"),
    ],
)
def test_names_of_systems(crs, name):
    assert crs_name(crs) == name


WKB = shapely.to_wkb(box(0, 0, 1, 1))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([({"land": "FR", "ort": "x"}, POLYGONS[0])], {}, "no columns of GADM.* thus: country.* It has: land, ort"),
        ([(OWN[0], None)], {}, r"1 of 1 areas have no geometry, such as row 0 \(Nice, PACA, France\); delete them"),
        ([(OWN[0], shapely.Point(1, 1))], {}, "1 of 1 areas are points or lines"),
        (ROWS[:2], {"values": native("polygon", [None, POLYGONS[1]]), "encoding": "polygon"}, "1 of 2 areas have no"),
        (ROWS[:2], {"values": pa.array([WKB, WKB[:9]])}, "can't be read: 1 of 2, such as row 1; write the file again"),
        (ROWS[:1], {"values": pa.array(["POLYGON ((0 0))"])}, "geometry that can't be read"),
        (ROWS[:1], {"encoding": "linestring"}, "is encoded as linestring"),
        (ROWS[:1], {"name": "outline", "metadata": False}, "no column of geometry; .* It has: iso.*outline"),
        ([({"country": "Freedonia", "admin_1": ""}, POLYGONS[0])], {}, "are of no country that ISO 3166 knows"),
        ([(OWN[0], box(4e5, 5e6, 5e5, 5.1e6))], {}, "look projected"),
        ([({"country": "XCA", "admin_1": ""}, POLYGONS[0])], {}, "holds no areas of any country"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, rows, options, message):
    with pytest.raises(InputError, match=message) as error:
        load_boundaries(geoparquet(tmp_path / "a.parquet", rows, **options))
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match=r"a.parquet is not a readable GeoParquet file of areas"):
        load_boundaries(path)
    geoparquet(path, ROWS)
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(InputError, match="holds no areas of any country"):
        load_boundaries(path)


def test_gdal_is_not_needed(tmp_path, monkeypatch, expected):
    path = geoparquet(tmp_path / "a.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    assert_same(load_boundaries(path), expected)
    monkeypatch.setitem(sys.modules, "pycountry", None)
    with pytest.raises(MissingDataError, match=r"needs pycountry: pip install 'geo-ray\[gis\]'"):
        load_boundaries(path)


def test_sliced_and_nested_columns_keep_their_rows(tmp_path, expected):
    """Arrow's lists may begin anywhere in what they share."""
    column = pa.concat_arrays([native("polygon", [box(1, 1, 2, 2)]), native("polygon", POLYGONS)])[1:]
    assert_same(load_boundaries(geoparquet(tmp_path / "a.parquet", ROWS, values=column, encoding="polygon")), expected)
    holes = np.array([box(0, 0, 9, 9) - box(1, 1, 2, 2) - box(4, 4, 5, 5)], dtype=object)
    path = geoparquet(tmp_path / "b.parquet", ROWS[:1], values=native("polygon", holes), encoding="polygon")
    assert load_boundaries(path).polygons[0].equals(holes[0])
