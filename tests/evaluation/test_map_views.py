import numpy as np
import pytest
import shapely
from small_partitions import across, objects, partition_of

from geo_ray.errors import InputError
from geo_ray.evaluation.map_views import equal_earth, lambert_azimuthal, main_areas, world_view, zoom_view
from geo_ray.geo.sphere import great_circle_km

BOX = (-10.0, 35.0, 20.0, 60.0)
RADIUS_KM = 6371.0088


def one_cell(polygon, country="AA"):
    return partition_of([polygon], [45], countries=[country])


@pytest.mark.parametrize("project", [equal_earth, lambda lonlat: lambert_azimuthal(lonlat, 50.0)])
def test_projections_keep_areas(project):
    west, south, east, north = BOX
    area = np.radians(east - west) * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
    assert shapely.transform(shapely.segmentize(shapely.box(*BOX), 0.1), project).area == pytest.approx(area, rel=1e-5)


def test_equal_earth_is_symmetric_about_the_origin():
    lonlat = np.array([[0.0, 0.0], [170.0, 80.0], [-170.0, -80.0], [180.0, 0.0]])
    found = equal_earth(lonlat)
    assert found[0].tolist() == [0, 0]
    np.testing.assert_allclose(found[1], -found[2])
    assert found[3, 0] == pytest.approx(17243959.06 / 6371008.7714, rel=1e-6)  # PROJ 9, +proj=eqearth


def test_azimuthal_distances_are_chords_of_the_middle():
    lonlat = np.array([[0.0, 50.0], [0.0, 60.0], [170.0, -30.0], [-90.0, 10.0]])
    distance = great_circle_km(np.full((4, 2), [50.0, 0.0]), lonlat[:, ::-1].copy()) / RADIUS_KM
    np.testing.assert_allclose(np.hypot(*lambert_azimuthal(lonlat, 50.0).T), 2 * np.sin(distance / 2), atol=1e-9)
    assert np.isfinite(lambert_azimuthal(np.array([[180.0, -50.0]]), 50.0)).all()


def test_world_shows_everything():
    view = world_view()
    cells = objects([shapely.box(-180, -90, -90, 0), shapely.box(90, 0, 180, 90)])
    assert not shapely.is_empty(view.polygons(cells)).any()
    left, bottom, right, top = shapely.total_bounds(view.polygons(objects([shapely.box(-180, -90, 180, 90)])))
    np.testing.assert_allclose((left, bottom, right, top), view.extent)


def test_a_panel_is_filled_on_two_sides():
    left, bottom, right, top = world_view().filled_to(3.0, 1.0).extent
    assert (right - left) / (top - bottom) == pytest.approx(3)
    assert top == pytest.approx(world_view().extent[3])
    assert left == -right


@pytest.mark.parametrize("zoom", ["170,-30,-160,-5", (170.0, -30.0, -160.0, -5.0), "fj", "FJ"])
def test_across_longitude_180_is_one_piece(zoom):
    view = zoom_view(one_cell(across(170, -30, -160, -5), "FJ"), zoom)
    assert view.frame.longitude % 360 == pytest.approx(185)
    (cell,) = view.polygons(objects([across(175, -20, -175, -10)]))
    assert cell.geom_type == "Polygon"
    assert cell.bounds[2] - cell.bounds[0] < 0.2
    width = view.extent[2] - view.extent[0]
    assert np.radians(30) * np.cos(np.radians(5)) < width < np.radians(30) * 1.1


def test_what_is_out_of_sight_is_empty():
    view = zoom_view(one_cell(shapely.box(0, 0, 1, 1)), BOX)
    cells = objects([shapely.box(0, 40, 5, 45), shapely.box(60, 0, 70, 10), shapely.box(170, -60, 180, -40)])
    assert shapely.is_empty(view.polygons(cells)).tolist() == [False, True, True]


def test_a_cell_about_the_antipode_is_not_turned_inside_out():
    view = zoom_view(one_cell(shapely.box(0, 0, 1, 1)), BOX)
    south = shapely.box(-180, -90, 180, 0)
    (drawn,) = view.polygons(objects([south]))
    assert shapely.is_empty(drawn) or not shapely.intersects_xy(drawn, 0.0, 0.0)
    (whole,) = view.polygons(objects([shapely.box(-180, -90, 180, 90)]))
    assert shapely.intersects_xy(whole, 0.0, 0.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_about_a_pole(sign):
    south, north = sorted([sign * 60, sign * 90])
    view = zoom_view(one_cell(shapely.box(-180, south, 180, north)), "AA")
    left, bottom, right, top = view.extent
    np.testing.assert_allclose([left + right, bottom + top], 0, atol=1e-9)
    assert right == pytest.approx(2 * np.sin(np.radians(15)) * 1.08, rel=1e-3)
    (cap,) = view.polygons(objects([shapely.box(-180, south, 180, north)]))
    assert cap.area == pytest.approx(2 * np.pi * (1 - np.sin(np.radians(60))), rel=1e-3)


def test_a_country_is_shown_without_far_islands():
    mainland = [shapely.box(x, 45, x + 1, 50) for x in range(5)]
    near, far = (
        shapely.box(8, 43, 9, 44),
        shapely.box(-54, 2, -51, 6),
    )  # 250 km and 7,000 km away; the last is the largest
    found = main_areas(objects([*mainland, near, far]), np.array([20, 20, 20, 20, 20, 5, 60]))
    assert shapely.union_all(found).equals(shapely.union_all([*mainland, near]))


def test_parts_of_one_cell_share_its_points_by_area():
    cell = shapely.union(shapely.box(0, 0, 2, 2), shapely.box(90, 0, 90.5, 0.5))
    found = main_areas(objects([cell, shapely.box(91, 0, 92, 1)]), np.array([100, 20]))
    assert found.tolist() == [shapely.box(0, 0, 2, 2).normalize()] or shapely.total_bounds(found).tolist() == [
        0,
        0,
        2,
        2,
    ]


def test_a_tiny_country_has_some_ground_about_it():
    view = zoom_view(one_cell(shapely.box(12.45, 41.9, 12.4501, 41.9001)), "AA")
    assert view.extent[2] - view.extent[0] == pytest.approx(25 / RADIUS_KM, rel=0.1)


@pytest.mark.parametrize(
    ("zoom", "message"),
    [
        ("atlantis", r"zoom='atlantis': no such place; there are europe, country codes \(AA\) and west,south,east"),
        ("FR", "no such place"),
        ("", "no such place"),
        ("1,2,3", "bounds are four numbers"),
        ("1,2,3,x", "bounds are four numbers"),
        ("0,50,10,40", "south below north"),
        ("0,0,190,10", "-180 to 180"),
        ("nan,0,10,10", "-180 to 180"),
        ("10,0,10,10", "need west"),
        ("-100,-50,100,50", "more than half the Earth"),
    ],
)
def test_unknown_zooms_are_named(zoom, message):
    with pytest.raises(InputError, match=message):
        zoom_view(one_cell(shapely.box(0, 0, 1, 1)), zoom)


def test_cells_without_countries_are_said():
    with pytest.raises(InputError, match=r"country codes \(which these cells lack\)"):
        zoom_view(one_cell(shapely.box(0, 0, 1, 1), ""), "FR")
