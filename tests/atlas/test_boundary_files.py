"""Levels, layers and polygons of boundary files, and what is wrong with files."""

import sqlite3
import sys

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from geo_ray.atlas.boundaries import write_boundaries
from geo_ray.atlas.boundary_files import BoundaryColumns, load_boundaries
from geo_ray.errors import InputError, MissingDataError
from tests.boundary_layers import geojson, names, shape, write

pyogrio = pytest.importorskip("pyogrio")
pytest.importorskip("pycountry")

BOW_TIE = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
ALL = BoundaryColumns(country="country", admin_1="admin_1", admin_2="admin_2")


def ours(path, *geometries, country="FR"):
    """Areas called a, b, c ... in our own columns."""
    names = [{"country": country, "admin_1": "", "admin_2": chr(ord("a") + n)} for n in range(len(geometries))]
    return geojson(path, list(zip(names, geometries, strict=True)))


def areas(boundaries):
    return dict(zip(boundaries.admin_2, boundaries.polygons, strict=True))


def assert_sound(boundaries):
    """Valid polygons on the Earth that don't overlap."""
    polygons = boundaries.polygons
    assert shapely.is_valid(polygons).all()
    assert set(shapely.get_type_id(polygons)) <= {3, 6}
    west, south, east, north = shapely.total_bounds(polygons)
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90
    assert shapely.area(polygons).sum() == pytest.approx(shapely.union_all(polygons).area, rel=1e-9)


def gadm(level, code, country, *ids_and_names):
    row = {"GID_0": code, "COUNTRY": country}
    for number, (gid, name) in enumerate(ids_and_names[:level], 1):
        row |= {f"GID_{number}": gid, f"NAME_{number}": name}
    return row


REIMS = (("FRA.6_1", "Grand Est"), ("FRA.6.5_1", "Marne"), ("FRA.6.5.4_1", "Reims"))
EPERNAY = (*REIMS[:2], ("FRA.6.5.2_1", "Épernay"))
SRINAGAR = (("Z01.14_1", "Jammu and Kashmir"), ("Z01.14.21_1", "Srinagar"), ("Z01.14.21.1_1", "n.a."))
CAPITAL = ("ISL.1_1", "Höfuðborgarsvæði")


def test_gadm_single_layer_has_admin_2_made_of_finer_areas(tmp_path):
    rows = [
        (gadm(3, "FRA", "France", *REIMS), box(4, 49, 5, 50)),
        (gadm(3, "Z01", "India", *SRINAGAR), box(74, 33, 76, 35)),
        (gadm(3, "FRA", "France", *EPERNAY), box(5, 49, 6, 50)),
        (gadm(3, "XKO", "Kosovo", ("XKO.1_1", "Gjakova"), ("XKO.1.1_1", "Deçani"), ("", "")), box(20, 42, 21, 43)),
    ]
    found = load_boundaries(write(tmp_path / "gadm_410.gpkg", rows, layer="gadm_410"))
    assert names(found) == [
        ("FR", "Grand Est", "Marne"),
        ("IN", "Jammu and Kashmir", "Srinagar"),
        ("XK", "Gjakova", "Deçani"),
    ]
    assert areas(found)["Marne"].equals(box(4, 49, 6, 50))
    assert (found.source, found.licence) == (
        "gadm_410.gpkg",
        "GADM licence: academic and other non-commercial use",
    )
    assert_sound(found)


LEVELS = {
    3: [(gadm(3, "FRA", "France", *REIMS), box(4, 49, 5, 50))],
    2: [(gadm(2, "FRA", "France", *REIMS), box(4, 49, 6, 50))],
    1: [
        (gadm(1, "FRA", "France", *REIMS), box(4, 49, 6, 50)),
        (gadm(1, "ISL", "Iceland", CAPITAL), box(-22, 63, -21, 64)),
    ],
    0: [
        (gadm(0, "FRA", "France"), box(4, 49, 6, 50)),
        (gadm(0, "ISL", "Iceland"), box(-25, 63, -13, 67)),
        (gadm(0, "XCA", "Caspian Sea"), box(50, 38, 53, 42)),
        (gadm(0, "VAT", "Vatican City"), box(12.4, 41.9, 12.5, 41.95)),
    ],
}


@pytest.mark.parametrize("prefix", ["ADM_", "ADM_ADM_"])
def test_gadm_levels_fall_back_to_what_a_country_has(tmp_path, prefix):
    path = tmp_path / "gadm_410-levels.gpkg"
    for level in (0, 1, 2, 3):
        write(path, LEVELS[level], layer=f"{prefix}{level}", kind="Polygon")
    found = load_boundaries(path)
    assert names(found) == [("FR", "Grand Est", "Marne"), ("IS", CAPITAL[1], ""), ("VA", "", "")]
    assert found.source == "gadm_410-levels.gpkg, without areas of no country: XCA"
    assert_sound(found)
    assert names(load_boundaries(path, layer=f"{prefix}1")) == [("FR", "Grand Est", ""), ("IS", CAPITAL[1], "")]


def test_a_folder_of_gadm_shapefiles_has_levels_too(tmp_path):
    for level in (0, 1, 2):
        write(tmp_path / f"gadm41_FRA_{level}.shp", LEVELS[level][:1], kind="Polygon")
    assert names(load_boundaries(tmp_path)) == [("FR", "Grand Est", "Marne")]


UNITS = [
    (shape("Tivat", "MNE", "ADM2"), box(18, 42, 19, 43)),
    (shape("Bar", "MNE", "ADM2"), box(19, 42, 20, 43)),
    (shape("Off\nshore", "MNE", "ADM2"), box(16, 42, 16.1, 42.1)),
    (shape("Valletta", "MLT", "ADM1"), box(14, 35, 15, 36)),
    (shape("Andorra", "AND", "ADM0"), box(1, 42, 2, 43)),
]
STATES = [
    (shape("Claimed", "SRB", "ADM1"), box(17, 41, 21, 44)),
    (shape("West", "MNE", "ADM1"), box(17.9, 41.9, 19.2, 43.1)),
    (shape("East", "MNE", "ADM1"), box(19.2, 41.9, 20.1, 43.1)),
]


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp"])
def test_geoboundaries_take_admin_1_from_the_area_of_their_country(tmp_path, suffix):
    units, states = tmp_path / f"ADM2.{suffix}", tmp_path / f"ADM1.{suffix}"
    for path, rows in ((units, UNITS), (states, STATES)):
        _ = geojson(path, rows) if suffix == "geojson" else write(path, rows, kind="Polygon")
    alone, joined = load_boundaries(units), load_boundaries(units, admin_1_path=states)
    assert names(alone)[:3] == [("ME", "", "Tivat"), ("ME", "", "Bar"), ("ME", "", "Off shore")]
    assert names(joined) == [
        ("ME", "West", "Tivat"),
        ("ME", "East", "Bar"),
        ("ME", "", "Off shore"),
        ("MT", "Valletta", ""),
        ("AD", "", ""),
    ]
    assert joined.licence == "CC BY 4.0 unless a country says otherwise"
    assert_sound(joined)


def test_admin_1_may_be_a_layer_of_the_same_file(tmp_path):
    path = write(tmp_path / "world.gpkg", UNITS[:2], layer="globalADM2")
    write(path, STATES, layer="globalADM1")
    found = load_boundaries(path, layer="globalADM2", admin_1_path=path)
    assert found.admin_1.tolist() == ["West", "East"]
    write(path, STATES, layer="oldADM1")
    with pytest.raises(InputError, match="none or several of its layers are called ADM1; it has globalADM2"):
        load_boundaries(path, layer="globalADM2", admin_1_path=path)


def test_our_own_columns_and_our_own_file(tmp_path):
    made = load_boundaries(ours(tmp_path / "a.geojson", box(0, 0, 1, 1), box(1, 0, 2, 1)))
    assert names(made) == [("FR", "", "a"), ("FR", "", "b")]
    write_boundaries(made, tmp_path / "a.parquet")
    read = load_boundaries(tmp_path / "a.parquet")
    assert (names(read), read.source) == (names(made), "a.geojson")
    assert read.polygons.tolist() == made.polygons.tolist()
    with pytest.raises(ValueError, match="layer, admin_1_path and columns are for other formats"):
        load_boundaries(tmp_path / "a.parquet", columns=ALL)


def test_polygons_are_repaired(tmp_path):
    mixed = shapely.GeometryCollection([box(4, 0, 5, 1), shapely.LineString([(5, 0), (9, 0)]), shapely.Point(7, 7)])
    tall = shapely.force_3d(box(6, 0, 7, 1), 100.0)
    found = load_boundaries(ours(tmp_path / "a.geojson", BOW_TIE, mixed, tall))
    assert_sound(found)
    assert areas(found)["a"].area == pytest.approx(2)
    assert areas(found)["b"].equals(box(4, 0, 5, 1))
    assert not shapely.has_z(found.polygons).any()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (box(175, -20, 190, -10), [box(175, -20, 180, -10), box(-180, -20, -170, -10)]),
        (box(-190, -20, -175, -10), [box(170, -20, 180, -10), box(-180, -20, -175, -10)]),
        (box(350, 40, 360, 50), [box(-10, 40, 0, 50)]),
        (box(180, 60, 190, 70), [box(-180, 60, -170, 70)]),
        (box(179, 60, 180 + 1e-9, 70), [box(179, 60, 180, 70)]),
        (box(-180, -90 - 1e-9, 180, -80), [box(-180, -90, 180, -80)]),
        (
            shapely.Polygon([(170, 0), (190, 20), (190, 0), (170, 20)]),
            [shapely.Polygon([(170, 0), (180, 10), (170, 20)]), shapely.Polygon([(-170, 0), (-180, 10), (-170, 20)])],
        ),
    ],
)
def test_longitudes_are_brought_to_the_earth(tmp_path, given, expected):
    found = load_boundaries(ours(tmp_path / "a.geojson", given))
    assert_sound(found)
    assert shapely.equals_exact(shapely.normalize(found.polygons[0]), shapely.normalize(shapely.union_all(expected)))


def test_neighbours_fit_after_the_cut(tmp_path):
    found = load_boundaries(ours(tmp_path / "a.geojson", box(175, 0, 190, 10), box(175, 10, 190, 20)))
    assert_sound(found)
    assert shapely.coverage_is_valid(found.polygons)


def test_the_smallest_area_has_what_several_cover(tmp_path):
    """A city in its district, a twin of it, two that overlap, and a whole that parts cover."""
    found = load_boundaries(
        ours(
            tmp_path / "a.geojson",
            box(0, 0, 4, 4),
            box(1, 1, 2, 2),
            box(1, 1, 2, 2),
            box(10, 0, 14, 2),
            box(13, 0, 15, 2),
            box(20, 0, 22, 1),
            box(20, 0, 21, 1),
            box(21, 0, 22, 1),
        )
    )
    assert_sound(found)
    assert found.admin_2.tolist() == list("abdegh")
    left = areas(found)
    assert left["a"].equals(box(0, 0, 4, 4) - box(1, 1, 2, 2))
    assert left["d"].equals(box(10, 0, 13, 2))
    assert left["e"].equals(box(13, 0, 15, 2))
    assert left["g"].equals(box(20, 0, 21, 1))


def test_common_borders_have_the_same_vertices(tmp_path):
    found = load_boundaries(ours(tmp_path / "a.geojson", box(0, 0, 1, 2), box(1, 0, 2, 1), box(1, 1, 2, 2)))
    assert shapely.coverage_is_valid(found.polygons)
    assert_sound(found)


corners = st.tuples(st.integers(-350, 340), st.integers(-90, 80), st.integers(1, 20), st.integers(1, 10))


@given(st.lists(corners, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_any_boxes_make_a_coverage_in_which_the_smallest_wins(tmp_path_factory, corners):
    boxes = [(west, south, min(west + width, 360), south + height) for west, south, width, height in corners]
    found = load_boundaries(ours(tmp_path_factory.mktemp("boxes") / "a.geojson", *(box(*b) for b in boxes)))
    assert_sound(found)
    middles = np.mgrid[-180:180, -90:90].reshape(2, -1).T + 0.5
    owner, size = np.full(len(middles), ""), np.full(len(middles), np.inf)
    for number, (west, south, east, north) in enumerate(boxes):
        on = ((middles[:, 0] - west) % 360 < east - west) & (middles[:, 1] > south) & (middles[:, 1] < north)
        wins = on & (size > (east - west) * (north - south))
        owner[wins], size[wins] = chr(ord("a") + number), (east - west) * (north - south)
    place = found.areas.covering(middles[:, ::-1])
    assert np.where(place < 0, "", found.admin_2[place]).tolist() == owner.tolist()


@pytest.mark.parametrize(("crs", "name"), [("EPSG:3857", "EPSG:3857"), ("EPSG:4269", "EPSG:4269"), ("+proj=moll", "")])
def test_other_systems_of_coordinates_are_refused(tmp_path, crs, name):
    path = write(tmp_path / "a.gpkg", UNITS, crs=crs)
    with pytest.raises(InputError, match=rf"a.gpkg is in {name}.*; convert it: ogr2ogr -t_srs EPSG:4326$"):
        load_boundaries(path)


def test_no_system_of_coordinates_is_wgs_84_of_publishers_alone(tmp_path):
    path = write(tmp_path / "a.shp", UNITS, kind="Polygon")
    (tmp_path / "a.prj").unlink()
    assert len(load_boundaries(path)) == len(UNITS)
    cgaz = write(tmp_path / "a.gpkg", UNITS)
    with sqlite3.connect(cgaz) as database:
        database.execute("UPDATE gpkg_geometry_columns SET srs_id = 0")
    assert "Undefined" in pyogrio.read_info(cgaz)["crs"]
    assert len(load_boundaries(cgaz)) == len(UNITS)
    with pytest.raises(InputError, match=r"doesn't say in what system .*: ogr2ogr -a_srs EPSG:4326$"):
        load_boundaries(path, columns=BoundaryColumns(country="shapeGroup"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, r"1 of 2 areas have no geometry, such as row 1 \(b, FR\); delete them"),
        (shapely.Polygon(), "1 of 2 areas have no geometry"),
        (shapely.Point(1, 1), "1 of 2 areas are points or lines"),
        (shapely.Polygon([(0, 0), (1, 1), (0, 0)]), "1 of 2 areas are points or lines"),
        (box(100, 89, 101, 91), "coordinates that are no degrees .*; correct them"),
        (box(20, -140, 40, -110), "look swapped: longitude comes first"),
        (box(4e5, 5e6, 5e5, 5.1e6), "look projected: .*-t_srs EPSG:4326"),
        (shapely.Polygon([(178, -18), (-178, -18), (-178, -16), (178, -16)]), "across longitude 180, .*-wrapdateline"),
    ],
)
def test_bad_geometry_is_refused_with_examples(tmp_path, bad, message):
    with pytest.raises(InputError, match=message) as error:
        load_boundaries(ours(tmp_path / "a.geojson", box(0, 0, 1, 1), bad))
    assert "\n" not in str(error.value)


def test_edges_round_the_earth_or_along_a_pole_are_no_leaps(tmp_path):
    antarctica = shapely.Polygon([(-179.9, -90), (179.9, -90), (179.9, -80), (60, -70), (-60, -70), (-179.9, -80)])
    assert_sound(load_boundaries(ours(tmp_path / "a.geojson", antarctica, box(-180, 70, 180, 80))))


def test_unknown_countries_are_refused(tmp_path):
    path = ours(tmp_path / "a.geojson", box(0, 0, 1, 1), country="Cote d'Or")
    with pytest.raises(InputError, match=r"1 of 1 areas are of no country .*\(a, Cote d'Or\)") as error:
        load_boundaries(path)
    assert """ogr2ogr -where "country NOT IN ('Cote d''Or')\"""" in str(error.value)
    geojson(path, [({"country": None, "admin_1": "x", "admin_2": None}, box(0, 0, 1, 1))])
    with pytest.raises(InputError, match=r"such as row 0 \(x\)"):
        load_boundaries(path)


def test_layers_are_named_where_there_are_several(tmp_path):
    path = write(tmp_path / "a.gpkg", UNITS, layer="north")
    write(path, STATES, layer="south")
    with pytest.raises(InputError, match="several layers with polygons; name one of north, south"):
        load_boundaries(path)
    with pytest.raises(InputError, match="no layer 'east' with polygons; it has north, south"):
        load_boundaries(path, layer="east")
    assert load_boundaries(path, layer="south").countries.tolist() == ["RS", "ME", "ME"]


def test_a_file_without_areas_is_refused(tmp_path):
    rows = [(gadm(0, "XCA", "Caspian Sea"), box(50, 38, 53, 42))]
    with pytest.raises(InputError, match="holds no areas of any country"):
        load_boundaries(write(tmp_path / "a.gpkg", rows))
    empty = write(tmp_path / "b.gpkg", rows, layer="empty")
    with sqlite3.connect(empty) as database:
        database.execute("DELETE FROM empty")
    with pytest.raises(InputError, match="holds no areas of any country"):
        load_boundaries(empty)


def test_unreadable_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none.gpkg: no such file"):
        load_boundaries(tmp_path / "none.gpkg")
    with pytest.raises(InputError, match=r"none.gpkg: no such file"):
        load_boundaries(ours(tmp_path / "a.geojson", box(0, 0, 1, 1)), admin_1_path=str(tmp_path / "none.gpkg"))
    (tmp_path / "b.gpkg").write_bytes(b"\x00" * 4096)
    with pytest.raises(InputError, match=r"b.gpkg can't be read; look at it with ogrinfo") as error:
        load_boundaries(tmp_path / "b.gpkg")
    assert "\n" not in str(error.value)
    (tmp_path / "c.csv").write_text("country,admin_1\nFR,x\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"c.csv holds no polygons \(c: None\)"):
        load_boundaries(tmp_path / "c.csv")
    places = write(tmp_path / "d.gpkg", [({"GID_0": "FRA"}, shapely.Point(0, 0))], layer="places", kind="Point")
    with pytest.raises(InputError, match=r"d.gpkg holds no polygons \(places: Point\)"):
        load_boundaries(places)


@pytest.mark.parametrize("package", ["pyogrio", "pycountry"])
def test_without_the_extra(tmp_path, monkeypatch, package):
    path = ours(tmp_path / "a.geojson", box(0, 0, 1, 1))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDataError, match=rf"needs {package}: pip install 'geo-ray\[gis\]'"):
        load_boundaries(path)


def test_a_coverage_that_geos_cannot_clean_is_refused(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise shapely.errors.GEOSException("TopologyException: side location conflict")

    monkeypatch.setattr(shapely, "coverage_clean", fails)
    with pytest.raises(InputError, match="overlap in a way that can't be cleaned: TopologyException"):
        load_boundaries(ours(tmp_path / "a.geojson", box(0, 0, 2, 2), box(1, 1, 3, 3)))
