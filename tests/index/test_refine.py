"""Refinement against a slow transcription of PIGEON's steps, and at its edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from geo_ray.geo.sphere import great_circle_km, spherical_mean
from geo_ray.index.refine import (
    Matches,
    Refinement,
    gated,
    rank_cells,
    refine,
    refine_by_neighbours,
    softmax,
)

INF = math.inf


def slow_refine(probability, centers, found, parameters):
    """Methods 1.8, steps 1 to 6, for one image; its known bugs avoided (nearest member, centre where there is none)."""
    k = len(probability)
    distance = [float(d) for d in found["prototype_distance"]]
    if parameters.nearness == "member":
        distance = [float(min(members)) for members in found["member_distance"]]
    if all(math.isinf(d) for d in distance):
        score = [float(p) for p in probability]
    else:
        nearest = min(distance)
        weight = [0.0 if math.isinf(d) else math.exp(-(d - nearest) / parameters.temperature) for d in distance]
        score = [float(p) * w / sum(weight) for p, w in zip(probability, weight, strict=True)]
        if sum(score) == 0:
            score = [float(p) for p in probability]
    points = []
    for cell in range(k):
        members = zip(found["member_distance"][cell], map(tuple, found["member_latlon"][cell]), strict=True)
        near = [member for member in members if not math.isinf(member[0])]
        points.append(min(near)[1] if near else tuple(centers[cell]))
    winner = max(range(k), key=lambda cell: score[cell])
    if great_circle_km(np.array(centers[0]), np.array(points[winner])) > parameters.max_distance_km:
        score = [float(p) for p in probability]
        winner = max(range(k), key=lambda cell: score[cell])
    shares = np.array(score) / sum(score) * sum(float(p) for p in probability)
    return points[winner], winner, points, shares


def random_case(seed, n=30, k=4, m=3, gaps=0.3):
    """Probabilities, centres and matches, with cells of no prototype and of few members."""
    rng = np.random.default_rng(seed)
    probability = -np.sort(-rng.dirichlet(np.ones(k + 2), n), axis=1)[:, :k].astype(np.float32)
    centers = np.stack([rng.uniform(-80, 80, (n, k)), rng.uniform(-180, 180, (n, k))], axis=-1)
    prototype = rng.uniform(0.1, 2, (n, k)).astype(np.float32)
    member = np.sort(rng.uniform(0.1, 2, (n, k, m)), axis=2).astype(np.float32)
    counts = rng.integers(1, m + 1, (n, k))
    counts[rng.random((n, k)) < gaps] = 0
    member[np.arange(m) >= counts[..., None]] = np.inf
    prototype[counts == 0] = np.inf
    places = centers[:, :, None] + rng.normal(0, 3, (n, k, m, 2))
    return probability, centers, Matches(prototype_distance=prototype, member_distance=member, member_latlon=places)


def case(probability, centers, prototype, member, places):
    """One image from lists."""
    found = Matches(
        prototype_distance=np.array([prototype], np.float32),
        member_distance=np.array([member], np.float32),
        member_latlon=np.array([places], np.float64),
    )
    return np.array([probability], np.float32), np.array([centers], np.float64), found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "parameters",
    [
        Refinement(),
        Refinement(temperature=0.05, max_distance_km=20100.0),
        Refinement(max_distance_km=300.0),
        Refinement(temperature=0.1, nearness="member", max_distance_km=20100.0),
    ],
)
def test_fast_is_slow(seed, parameters):
    probability, centers, found = random_case(seed)
    refined = refine(probability, centers, found, parameters)
    for row in range(len(probability)):
        one = {name: value[row] for name, value in vars(found).items()}
        point, winner, points, shares = slow_refine(probability[row], centers[row], one, parameters)
        assert refined.winner[row] == winner
        np.testing.assert_array_equal(refined.latlon[row], point)
        np.testing.assert_array_equal(refined.candidate_latlon[row], points)
        np.testing.assert_allclose(refined.candidate_probability[row], shares, rtol=1e-6)


def test_the_nearest_member_answers_not_the_farthest():
    refined = refine(*case([1.0], [(0, 0)], [0.5], [[0.1, 0.9]], [[(1, 1), (2, 2)]]), Refinement())
    assert refined.latlon.tolist() == [[1, 1]]


def test_prototypes_can_overturn_the_head():
    arguments = case([0.5, 0.4], [(0, 0), (3, 3)], [2.0, 0.1], [[0.1], [0.1]], [[(0.5, 0.5)], [(3.5, 3.5)]])
    refined = refine(*arguments, Refinement(temperature=0.5))
    assert refined.winner.tolist() == [1]
    assert refined.latlon.tolist() == [[3.5, 3.5]]
    assert refined.candidate_probability.sum() == pytest.approx(0.9)
    assert refined.candidate_probability[0, 1] > refined.candidate_probability[0, 0]


def test_a_candidate_without_prototype_is_at_its_centre():
    arguments = case([0.6, 0.4], [(5, 6), (7, 8)], [INF, 0.1], [[INF], [0.1]], [[(0, 0)], [(7.1, 8.1)]])
    refined = refine(*arguments, Refinement())
    assert refined.candidate_latlon[0].tolist() == [[5, 6], [7.1, 8.1]]
    assert refined.winner.tolist() == [1]


def test_without_any_prototype_the_head_answers():
    arguments = case([0.6, 0.3], [(5, 6), (7, 8)], [INF, INF], [[INF], [INF]], [[(0, 0)], [(0, 0)]])
    refined = refine(*arguments, Refinement())
    assert refined.latlon.tolist() == [[5, 6]]
    np.testing.assert_allclose(refined.candidate_probability, [[0.6, 0.3]], rtol=1e-6)


def test_the_head_answers_where_prototypes_are_only_in_impossible_cells():
    arguments = case([1.0, 0.0], [(5, 6), (7, 8)], [INF, 0.1], [[INF], [0.1]], [[(0, 0)], [(7.1, 8.1)]])
    refined = refine(*arguments, Refinement())
    assert refined.latlon.tolist() == [[5, 6]]
    assert refined.candidate_probability.tolist() == [[1, 0]]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
@pytest.mark.parametrize("temperature", [1e-12, 1.0, 1e12])
def test_extreme_scales_keep_the_order(scale, temperature):
    distances = [2 * scale, 1 * scale]
    arguments = case([0.5, 0.5], [(0, 0), (1, 1)], distances, [[d] for d in distances], [[(0, 0)], [(1, 1)]])
    refined = refine(*arguments, Refinement(temperature=temperature, blend_km=50.0, member_temperature=temperature))
    assert np.isfinite(refined.latlon).all()
    assert refined.candidate_probability.sum() == pytest.approx(1)
    assert np.isfinite(refined.spread_km).all()
    if scale / temperature > 1e-3:
        assert refined.winner.tolist() == [1]


def test_a_move_too_far_gives_the_top_cell_back():
    arguments = case([0.5, 0.5], [(0, 0), (0, 30)], [1.0, 0.1], [[0.3], [0.1]], [[(0.2, 0.2)], [(0, 30)]])
    near = refine(*arguments, Refinement(temperature=0.1, max_distance_km=1000.0))
    far = refine(*arguments, Refinement(temperature=0.1, max_distance_km=5000.0))
    assert near.winner.tolist() == [0]
    assert near.latlon.tolist() == [[0.2, 0.2]]
    np.testing.assert_allclose(near.candidate_probability, [[0.5, 0.5]])
    assert far.latlon.tolist() == [[0, 30]]


def test_a_blend_crosses_the_antimeridian():
    places = [[(-17.0, 179.9), (-17.0, -179.9), (60.0, 0.0)]]
    blend = Refinement(blend_km=100.0, member_temperature=1.0)
    refined = refine(*case([1.0], [(-17, 179)], [0.5], [[0.5, 0.5, 0.5]], places), blend)
    assert great_circle_km(refined.latlon[0], np.array([-17.0, 180.0])) < 0.1
    one_side = refine(*case([1.0], [(-17, 179)], [0.5], [[0.5, INF, INF]], places), blend)
    np.testing.assert_allclose(one_side.latlon, [[-17.0, 179.9]])


def test_a_blend_leans_to_the_nearer_member_of_any_candidate():
    places = [[(0.0, 10.0)], [(0.0, 10.4)]]
    arguments = case([0.6, 0.4], [(0, 10), (0, 11)], [0.5, 0.5], [[0.1], [0.2]], places)
    refined = refine(*arguments, Refinement(blend_km=60.0, member_temperature=0.1))
    share = math.exp(-1) / (1 + math.exp(-1))
    np.testing.assert_allclose(refined.latlon, [[0, 10 + 0.4 * share]], atol=1e-5)
    apart = refine(*arguments, Refinement(blend_km=40.0, member_temperature=0.1))
    np.testing.assert_allclose(apart.latlon, [[0, 10]])


def test_a_blend_leaves_a_centre_alone():
    arguments = case([0.9, 0.1], [(0, 10), (0, 11)], [INF, INF], [[INF], [INF]], [[(0, 0)], [(0, 0)]])
    assert refine(*arguments, Refinement(blend_km=1e5)).latlon.tolist() == [[0, 10]]


def test_spread_is_the_expected_distance():
    arguments = case([0.5, 0.5], [(0, 0), (0, 0)], [1.0, 1.0], [[0.1], [0.1]], [[(0, 0)], [(0, 1)]])
    refined = refine(*arguments, Refinement())
    assert refined.spread_km[0] == pytest.approx(great_circle_km(np.zeros(2), np.array([0.0, 1.0])) / 2)


def test_no_images():
    probability, centers, found = random_case(0, n=0)
    for blend_km in (0.0, 10.0):
        refined = refine(probability, centers, found, Refinement(blend_km=blend_km))
        assert refined.latlon.shape == (0, 2)
        assert refined.spread_km.shape == (0,)


@pytest.mark.parametrize("blend_km", [0.0, 500.0])
def test_row_order_and_batch_size_change_nothing(blend_km):
    probability, centers, found = random_case(5)
    parameters = Refinement(blend_km=blend_km, member_temperature=0.3)
    whole = refine(probability, centers, found, parameters)
    for rows in (np.random.default_rng(0).permutation(30), np.arange(30)[::-1], np.array([17])):
        own = Matches(**{name: value[rows] for name, value in vars(found).items()})
        part = refine(probability[rows], centers[rows], own, parameters)
        for name, value in vars(whole).items():
            np.testing.assert_array_equal(getattr(part, name), value[rows])


@given(st.integers(0, 10**6), st.floats(-180, 180))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_turning_the_sphere_turns_the_answer(seed, turn):
    probability, centers, found = random_case(seed, n=5)
    parameters = Refinement(blend_km=300.0, member_temperature=0.5)
    still = refine(probability, centers, found, parameters)
    east = np.array([0, turn])
    moved = Matches(**(vars(found) | {"member_latlon": found.member_latlon + east}))
    turned = refine(probability, centers + east, moved, parameters)
    np.testing.assert_array_equal(turned.winner, still.winner)
    assert great_circle_km(turned.latlon, still.latlon + east).max() < 1e-3


def test_cells_are_ranked_by_calibrated_probability():
    logits = np.array([[0.0, 2.0, 1.0], [5.0, -5.0, 5.0]], np.float32)
    cells, probability = rank_cells(logits, 2, 2.0)
    assert cells.tolist() == [[1, 2], [0, 2]]
    whole = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probability, np.take_along_axis(whole, cells, axis=1), rtol=1e-6)
    assert rank_cells(logits[:0], 2, 1.0)[0].shape == (0, 2)
    assert np.isfinite(rank_cells(np.array([[1e30, 3e38]], np.float32), 2, 1e-12)[1]).all()


def test_more_cells_than_there_are_is_refused():
    with pytest.raises(ValueError, match="num_cells=5 is more than the 3 cells"):
        rank_cells(np.zeros((1, 3), np.float32), 5, 1.0)


def test_softmax_of_nothing_known_is_uniform():
    rows = softmax(np.array([[-np.inf, -np.inf], [0.0, -np.inf], [1e300, 1e300]]))
    np.testing.assert_allclose(rows, [[0.5, 0.5], [1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"num_cells": 0}, "num_cells=0"),
        ({"blend_km": -1.0}, "blend_km=-1.0"),
        ({"max_distance_km": -1.0}, "max_distance_km=-1.0"),
    ],
)
def test_parameters_that_cannot_work_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        Refinement(**wrong)


@pytest.mark.parametrize("name", ["members", "nearness"])
def test_a_misspelt_choice_is_refused(name):
    """Where no type checker looks, as in a manifest that was edited by hand."""
    parameters = Refinement()
    object.__setattr__(parameters, name, "all")
    with pytest.raises(ValueError, match=f"{name}='all'"):
        parameters.__post_init__()


def test_the_first_cells_that_hold_the_gate_are_searched():
    cells = np.array([[4, 2, 9], [1, 0, 3], [5, 6, 7]])
    probability = np.array([[0.5, 0.3, 0.1], [0.95, 0.03, 0.01], [0.2, 0.1, 0.1]], np.float32)
    assert gated(cells, probability, 0.75).tolist() == [[4, 2, -1], [1, -1, -1], [5, 6, 7]]
    assert gated(cells, probability, 1.0).tolist() == cells.tolist()
    assert gated(cells, probability, 1e-6)[:, 0].tolist() == [4, 1, 5]  # the best cell always


def slow_neighbours(probability, centers, distance, places, parameters):
    """One image: the nearest member, or the mean of those near it, or the top cell's centre."""
    if math.isinf(distance[0]):
        point = np.asarray(centers[0])
    elif parameters.blend_km == 0:
        point = np.asarray(places[0])
    else:
        near = [m for m in range(len(distance)) if not math.isinf(distance[m])
                and great_circle_km(np.array(places[0]), np.array(places[m])) <= parameters.blend_km]  # fmt: skip
        weight = np.array([math.exp(-(distance[m] - distance[0]) / parameters.member_temperature) for m in near])
        point = spherical_mean(np.array([places[m] for m in near]), weight / weight.sum())
    away = [float(great_circle_km(point, np.array(center))) for center in centers]
    return point, away.index(min(away))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), blend_km=st.sampled_from([0.0, 400.0]), n=st.integers(0, 9))
def test_neighbours_answer_as_the_slow_way(seed, blend_km, n):
    probability, centers, found = random_case(seed, n=n)
    distance = np.sort(found.member_distance.reshape(n, 12), axis=1).astype(np.float64)
    places = found.member_latlon.reshape(n, 12, 2)
    parameters = Refinement(method="neighbours", blend_km=blend_km, member_temperature=0.3)
    refined = refine_by_neighbours(probability, centers, distance, places, parameters)
    for row in range(n):
        point, winner = slow_neighbours(probability[row], centers[row], distance[row], places[row], parameters)
        assert great_circle_km(refined.latlon[row], point) < 1e-6
        assert refined.winner[row] == winner
        np.testing.assert_array_equal(refined.candidate_latlon[row, winner], refined.latlon[row])
    np.testing.assert_array_equal(refined.candidate_probability, probability.astype(np.float64))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), average_km=st.sampled_from([500.0, 5000.0]))
def test_the_average_is_over_candidates_near_the_answer(seed, average_km):
    probability, centers, found = random_case(seed)
    plain = refine(probability, centers, found, Refinement(temperature=0.5))
    averaged = refine(probability, centers, found, Refinement(temperature=0.5, average_km=average_km))
    for row in range(len(probability)):
        points, answer = plain.candidate_latlon[row], plain.latlon[row]
        near = [k for k in range(len(points)) if great_circle_km(points[k], answer) <= average_km]
        mean = spherical_mean(points[near], plain.candidate_probability[row, near])
        assert great_circle_km(averaged.latlon[row], mean) < 1e-6
    np.testing.assert_array_equal(averaged.winner, plain.winner)


@pytest.mark.parametrize(
    "wrong", [{"method": "votes"}, {"measure": "l1"}, {"gate": 0.0}, {"gate": 1.1}, {"average_km": -1.0}]
)
def test_unknown_options_are_refused(wrong):
    with pytest.raises((ValueError, TypeCheckError), match=next(iter(wrong))):
        Refinement(**wrong)
