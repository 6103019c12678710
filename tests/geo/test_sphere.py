"""Distances, means, destinations and checks of the sphere: by hand, against the chord, and under rotation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.geo.sphere import (
    EARTH_RADIUS_KM,
    check_latlon,
    destination,
    from_unit_vectors,
    great_circle_km,
    offsets_km,
    pairwise_km,
    spherical_mean,
    unit_vectors,
    wrap_longitude,
)

QUARTER_KM = np.pi / 2 * EARTH_RADIUS_KM
latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
points = st.tuples(latitudes, longitudes).map(np.array)
bounded = settings(max_examples=100, deadline=None, derandomize=True)


def chord_km(a, b):
    """The slow way: the angle between unit vectors from their cross and dot products, exact at any distance."""
    u, v = unit_vectors(a), unit_vectors(b)
    return EARTH_RADIUS_KM * np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0), (0, 90), QUARTER_KM),
        ((0, 0), (90, 123), QUARTER_KM),
        ((90, 0), (-90, 77), 2 * QUARTER_KM),
        ((90, -170), (90, 20), 0),
        ((0, 180), (0, -180), 0),
        ((0, 179.5), (0, -179.5), QUARTER_KM / 90),
        ((12, 34), (-12, -146), 2 * QUARTER_KM),
        ((51.5, -0.1), (51.5, -0.1), 0),
    ],
)
def test_distance_by_hand(a, b, expected):
    km = great_circle_km(np.array(a, float), np.array(b, float))
    assert km == pytest.approx(expected, abs=1e-6)


def test_distance_of_no_points_and_of_one():
    assert great_circle_km(np.zeros((0, 2)), np.zeros((0, 2))).shape == (0,)
    assert pairwise_km(np.zeros((0, 2)), np.zeros((3, 2))).shape == (0, 3)
    assert pairwise_km(np.zeros((1, 2)), np.array([[0.0, 90.0]])).tolist() == [[pytest.approx(QUARTER_KM)]]


@given(points, points)
@bounded
def test_distance_is_the_chords_and_symmetric(a, b):
    km = great_circle_km(a, b)
    assert km == pytest.approx(chord_km(a, b), rel=1e-9, abs=1e-3)
    assert km == great_circle_km(b, a)


@given(points, points, st.floats(-360, 360))
@bounded
def test_distance_does_not_change_with_the_meridian(a, b, turn):
    turned = great_circle_km(np.array([a[0], a[1] + turn]), np.array([b[0], b[1] + turn]))
    assert turned == pytest.approx(great_circle_km(a, b), abs=1e-3)


@given(points, points, points)
@bounded
def test_triangle_inequality(a, b, c):
    assert great_circle_km(a, c) <= great_circle_km(a, b) + great_circle_km(b, c) + 1e-3


def test_pairwise_is_the_double_loop():
    rng = np.random.default_rng(0)
    a, b = (np.column_stack([rng.uniform(-90, 90, n), rng.uniform(-180, 180, n)]) for n in (5, 7))
    slow = [[great_circle_km(p, q) for q in b] for p in a]
    np.testing.assert_array_equal(pairwise_km(a, b), slow)


@given(points)
@bounded
def test_unit_vectors_there_and_back(point):
    back = from_unit_vectors(unit_vectors(point))
    assert great_circle_km(point, back) < 1e-6
    assert -180 <= back[1] <= 180


def test_unit_vectors_axes():
    axes = unit_vectors(np.array([[0.0, 0.0], [0.0, 90.0], [90.0, 45.0]]))
    np.testing.assert_allclose(axes, np.eye(3), atol=1e-15)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([(0, 179), (0, -179)], (0, 180)),
        ([(10, 170), (10, -170), (10, 180)], (10.1, 180)),
        ([(80, 0), (80, 90), (80, 180), (80, -90)], (90, 0)),
        ([(-60, 20), (-60, -160)], (-90, 0)),
        ([(48.2, 16.4)], (48.2, 16.4)),
    ],
)
def test_mean_by_hand(members, expected):
    mean = spherical_mean(np.array(members, float))
    assert great_circle_km(mean, np.array(expected, float)) < 12


def test_mean_is_weighted_and_batched():
    places = np.array([[[0.0, 0.0], [0.0, 90.0]], [[45.0, 10.0], [-45.0, 10.0]]])
    mean = spherical_mean(places, np.array([[1.0, 0.0], [1.0, 1.0]], np.float32))
    np.testing.assert_allclose(mean, [[0, 0], [0, 10]], atol=1e-9)
    even = spherical_mean(places[0])
    assert even[1] == pytest.approx(45)


def test_mean_of_nothing_and_of_opposites_is_finite():
    assert spherical_mean(np.zeros((0, 2))).tolist() == [0, 0]
    assert np.isfinite(spherical_mean(np.array([[0.0, 0.0], [0.0, 180.0]]))).all()


@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), min_size=1, max_size=8), st.floats(-180, 180))
@bounded
def test_mean_turns_with_the_sphere(members, turn):
    latlon, east = np.array(members), np.array([0, turn])
    mean, turned = spherical_mean(latlon), spherical_mean(latlon + east)
    assert great_circle_km(mean + east, turned) < 1e-4


@pytest.mark.parametrize(
    ("origin", "east", "north", "expected"),
    [
        ((0, 0), QUARTER_KM, 0, (0, 90)),
        ((0, 0), 0, -QUARTER_KM / 2, (-45, 0)),
        ((0, 179), QUARTER_KM / 45, 0, (0, -179)),
        ((0, -179), -QUARTER_KM / 45, 0, (0, 179)),
        ((89, 30), 0, QUARTER_KM / 45, (89, -150)),
        ((-89, 30), 0, -QUARTER_KM / 45, (-89, -150)),
        ((90, 0), 0, -QUARTER_KM / 2, (45, 0)),
        ((12.5, -33), 0, 0, (12.5, -33)),
    ],
)
def test_destination_by_hand(origin, east, north, expected):
    reached = destination(np.array(origin, float), np.array(east, float), np.array(north, float))
    assert great_circle_km(reached, np.array(expected, float)) < 1e-4
    assert -180 <= reached[1] < 180


@given(points, st.floats(-5000, 5000), st.floats(-5000, 5000))
@bounded
def test_destination_is_as_far_as_asked(origin, east, north):
    reached = destination(origin, np.array(east), np.array(north))
    assert great_circle_km(origin, reached) == pytest.approx(np.hypot(east, north), abs=1e-2)
    assert -90 <= reached[0] <= 90
    assert -180 <= reached[1] < 180


def test_destination_of_no_points():
    assert destination(np.zeros((0, 2)), np.zeros(0), np.zeros(0)).shape == (0, 2)


@given(st.floats(-1000, 1000))
@bounded
def test_wrapped_longitude_is_the_same_meridian_in_range(longitude):
    wrapped = wrap_longitude(np.array(longitude))
    assert -180 <= wrapped < 180
    assert (wrapped - longitude) / 360 == pytest.approx(round((wrapped - longitude) / 360), abs=1e-9)


def test_wrapped_longitude_at_the_seam():
    just_west = np.nextafter(-180, -np.inf)
    assert wrap_longitude(np.array([180.0, -180.0, 540.0, just_west])).tolist() == [-180, -180, -180, -180]
    assert wrap_longitude(np.array([-0.0, 190.0, -190.0])).tolist() == [0, -170, 170]
    assert wrap_longitude(np.zeros(2, np.float32)).dtype == np.float32


def test_check_accepts_the_borders_and_nothing():
    check_latlon(np.array([[90.0, 180.0], [-90.0, -180.0]]))
    check_latlon(np.zeros((0, 2)))


def test_check_names_the_rows():
    latlon = np.zeros((5, 2))
    latlon[3] = np.nan, 0
    latlon[4] = 0, 181
    named = r"places: 2 of 5 points .*row 3: \[nan, 0.0\], row 4: \[0.0, 181.0\]"
    with pytest.raises(ValueError, match=named) as caught:
        check_latlon(latlon, "places")
    assert "swapped" not in str(caught.value)


def test_check_guesses_at_swapped_columns():
    with pytest.raises(ValueError, match="look swapped"):
        check_latlon(np.array([[139.7, 35.7], [2.3, 48.9]]))
    with pytest.raises(ValueError, match="not finite degrees") as caught:
        check_latlon(np.array([[500.0, 35.7]]))
    assert "swapped" not in str(caught.value)


@given(
    origin=st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    east=st.floats(-9000, 9000),
    north=st.floats(-9000, 9000),
)
def test_offsets_are_the_inverse_of_destination(origin, east, north):
    start = np.array(origin)
    there = destination(start[None], np.array([east]), np.array([north]))
    again = destination(start[None], *offsets_km(start, there).T)
    assert great_circle_km(there, again)[0] < 1e-3


def test_offsets_by_hand():
    degree = np.pi / 180 * EARTH_RADIUS_KM
    offsets = offsets_km(np.array([0.0, 179.0]), np.array([[0.0, -179.0], [1.0, 179.0], [0.0, 179.0]]))
    np.testing.assert_allclose(offsets, [[2 * degree, 0], [0, degree], [0, 0]], atol=1e-9)
