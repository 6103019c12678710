"""Publishers' columns, and their words for countries."""

import pytest
from shapely import box

from geo_ray.atlas.boundary_files import load_boundaries
from geo_ray.atlas.boundary_schemas import OTHER_CODES, BoundaryColumns
from geo_ray.errors import InputError
from tests.boundary_layers import geojson, names, shape, write

pycountry = pytest.importorskip("pycountry")


def test_countries_by_code_or_name(tmp_path):
    given = {
        "FR": "FR", "fra": "FR", "France": "FR", "Bolivia": "BO", "Russia": "RU", "turkey": "TR", "Türkiye": "TR",
        "Ivory Coast": "CI", "Kosovo": "XK", "XKX": "XK", "XKO": "XK", "KOS": "XK", "NA": "NA", "Niger": "NE",
        "Guinea": "GN", "WSB": "CY", "Cape Verde": "CV", "South Korea": "KR", "Macedonia": "MK",
    }  # fmt: skip
    rows = [({"state": name}, box(lon, 0, lon + 1, 1)) for lon, name in enumerate(given)]
    found = load_boundaries(geojson(tmp_path / "a.geojson", rows), columns=BoundaryColumns(country="State"))
    assert found.countries.tolist() == list(given.values())


def test_other_codes_are_not_in_iso_3166():
    known = {code for country in pycountry.countries for code in (country.alpha_2, country.alpha_3)}
    assert known.isdisjoint(OTHER_CODES)
    assert set(OTHER_CODES.values()) - {"XK"} <= known


def test_numbers_of_disputed_areas_are_no_iso_codes(tmp_path):
    """104 is Myanmar in ISO 3166; CGAZ numbers its disputed areas."""
    rows = [
        (shape("Tivat", "MNE", "ADM2"), box(18, 42, 19, 43)),
        (shape("West Bank", "104", "DISP"), box(35, 31, 35.5, 32)),
        (shape("Abyei", "100", "DISP"), box(28, 9, 29, 10)),
    ]
    found = load_boundaries(geojson(tmp_path / "cgaz.geojson", rows))
    assert names(found) == [("ME", "", "Tivat"), ("PS", "", "")]
    assert found.source == "cgaz.geojson, without areas of no country: Abyei"
    with pytest.raises(InputError, match="1 of 1 areas are of no country that ISO 3166 knows"):
        load_boundaries(geojson(tmp_path / "number.geojson", [(shape("Yangon", "104", "ADM2"), box(96, 16, 97, 17))]))


@pytest.mark.parametrize("upper", [False, True])
def test_natural_earth_falls_back_between_its_codes(tmp_path, upper):
    codes = {"FR": "FRA", "-1": "KOS", "-99": "CYN", "CY": "ESB", "NO": "NOR", "PS": "PSX", "AX": "ALD", "BD": "-99"}
    rows = [
        ({"adm1_code": "x", "iso_a2": iso_a2, "adm0_a3": adm0_a3, "name": f"in {iso_a2}"}, box(lon, 0, lon + 1, 1))
        for lon, (iso_a2, adm0_a3) in enumerate(codes.items())
    ]
    rows += [({"adm1_code": "x", "iso_a2": "-1", "adm0_a3": "PGA", "name": "Spratly Is."}, box(50, 0, 51, 1))]
    if upper:
        rows = [({name.upper(): value for name, value in attributes.items()}, polygon) for attributes, polygon in rows]
    found = load_boundaries(write(tmp_path / "ne_10m_admin_1_states_provinces.shp", rows, kind="Polygon"))
    assert found.countries.tolist() == ["FR", "XK", "CY", "CY", "NO", "PS", "AX", "BD"]
    assert found.admin_1[0] == "in FR"
    assert set(found.admin_2) == {""}
    assert found.licence == "public domain"
    assert found.source.endswith(", without areas of no country: PGA")


def test_natural_earth_admin_0_has_no_admin_1(tmp_path):
    rows = [({"SOVEREIGNT": "France", "ADM0_A3": "FRA", "ISO_A2": "-99", "NAME": "France"}, box(0, 45, 1, 46))]
    found = load_boundaries(write(tmp_path / "ne_10m_admin_0_countries.shp", rows, kind="Polygon"))
    assert names(found) == [("FR", "", "")]


def test_named_columns_in_any_case(tmp_path):
    rows = [({"CC": "ES", "Prov": "Ávila", "no": 5, "shapeGroup": "x", "shapeName": "y"}, box(-5, 40, -4, 41))]
    path = write(tmp_path / "a.gpkg", rows)
    found = load_boundaries(path, columns=BoundaryColumns(country="cc", admin_1="PROV", admin_2="no"))
    assert names(found) == [("ES", "Ávila", "5")]
    assert (found.source, found.licence) == ("a.gpkg", "")
    with pytest.raises(InputError, match=r"a.gpkg has no columns town. It has: .*cc"):
        load_boundaries(path, columns=BoundaryColumns(country="CC", admin_2="town"))


def test_unknown_columns_are_refused(tmp_path):
    path = geojson(tmp_path / "a.geojson", [({"land": "FR", "ort": "x"}, box(0, 0, 1, 1))])
    with pytest.raises(InputError, match=r"has no columns of GADM, geoBoundaries or Natural Earth; name .* land, ort"):
        load_boundaries(path)
