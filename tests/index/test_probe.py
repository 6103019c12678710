"""Hierarchical probing, by hand and against a loop over images."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from geo_ray.geo.sphere import great_circle_km
from geo_ray.index.probe import CHUNK, GRID, Probe, Probing

METHODS = ("greedy", "beam", "tree")


class Slow:
    """One image at a time, in the words of the papers."""

    def __init__(self, parents, label_features, parameters):
        self.parents, self.features, self.parameters = parents.tolist(), label_features.astype(np.float64), parameters
        self.children = {row: [] for row in range(-1, len(parents))}
        for row, parent in enumerate(self.parents):
            self.children[parent].append(row)

    def cosine(self, x, row):
        y = self.features[row]
        lengths = math.sqrt((x @ x) * (y @ y))
        return round(float(x @ y / lengths) * GRID) / GRID if lengths else 0.0

    def shares(self, x, rows):
        weights = [math.exp(self.parameters.logit_scale * (self.cosine(x, row) - 1)) for row in rows]
        return {row: weight / sum(weights) for row, weight in zip(rows, weights, strict=True)}

    def ranked(self, shares):
        return sorted(shares, key=lambda row: (-shares[row], row))

    def __call__(self, x):
        """Candidates and their probabilities, most probable first."""
        x = x.astype(np.float64)
        shares = self.tree(x) if self.parameters.method == "tree" else self.beam(x)
        return [(row, shares[row]) for row in self.ranked(shares)][: self.parameters.num_candidates]

    def beam(self, x):
        first = self.shares(x, self.children[-1])
        width = self.parameters.beam if self.parameters.method == "beam" else 1
        found = {}
        for row in self.ranked(first)[:width]:
            below = self.shares(x, self.children[row]) if self.children[row] else {row: 1.0}
            found |= {child: first[row] * share for child, share in below.items()}
        return found

    def tree(self, x):
        siblings, above = self.shares(x, self.children[-1]), 1.0
        while True:
            answer = self.ranked(siblings)[0]
            below = self.shares(x, self.children[answer])
            best = self.ranked(below)[:1]
            if not best or self.cosine(x, best[0]) <= self.cosine(x, answer):
                return {row: above * share for row, share in siblings.items()}
            siblings, above = below, above * siblings[answer]


def places(num_labels):
    rng = np.random.default_rng(num_labels)
    return np.stack([rng.uniform(-80, 80, num_labels), rng.uniform(-180, 180, num_labels)], axis=1)


@st.composite
def problems(draw):
    """A forest of any shape, and features of few values, so that similarities are often equal."""
    num_labels = draw(st.integers(1, 24))
    parents = np.array([draw(st.integers(-1, min(row - 1, 6))) for row in range(num_labels)], np.int64)
    values = st.integers(-1, 2)
    rows = st.lists(st.lists(values, min_size=3, max_size=3), min_size=num_labels, max_size=num_labels)
    labels = np.array(draw(rows), np.float32)
    images = np.array(draw(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=5)), np.float32)
    parameters = Probing(
        method=draw(st.sampled_from(METHODS)),
        beam=draw(st.integers(1, 4)),
        logit_scale=draw(st.sampled_from([1.0, 30.0])),
        num_candidates=draw(st.integers(1, 6)),
    )
    return parents, labels, images, parameters


def check_against_loop(parents, labels, images, parameters):
    latlon = places(len(parents))
    found = Probe(parents, latlon, labels, parameters)(images)
    slow = Slow(parents, labels, parameters)
    for row, image in enumerate(images):
        expected = slow(image)
        probability = np.zeros(parameters.num_candidates)
        probability[: len(expected)] = [share for _, share in expected]
        np.testing.assert_allclose(found.candidate_probability[row], probability, rtol=1e-9, atol=1e-300)
        # Equal products of different factors may differ in the last digit: there, either order will do.
        for place, (label, share) in enumerate(expected):
            tied = {other for other, also in expected if math.isclose(also, share, rel_tol=1e-12)}
            assert found.cells[row, place] == label or (
                parameters.method == "beam" and len(tied) > 1 and found.cells[row, place] in tied
            )
        assert (found.cells[row, len(expected) :] == found.cells[row, 0]).all()
        first = slow.ranked(slow.shares(image.astype(np.float64), slow.children[-1]))[0]
        np.testing.assert_array_equal(found.top_latlon[row], latlon[first])
    np.testing.assert_array_equal(found.winner, 0)
    np.testing.assert_array_equal(found.latlon, latlon[found.cells[:, 0]])
    np.testing.assert_array_equal(found.candidate_latlon, latlon[found.cells])


@settings(deadline=None, max_examples=400)
@given(problems())
def test_against_a_loop_with_ties(problem):
    parents, labels, images, parameters = problem
    # The beam's last candidates may be others of equal probability: all are asked for.
    if parameters.method == "beam":
        parameters = Probing(method="beam", beam=parameters.beam, logit_scale=parameters.logit_scale, num_candidates=24)
    check_against_loop(parents, labels, images, parameters)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["two levels", "deep", "flat"])
def test_against_a_loop(method, shape):
    rng = np.random.default_rng(0)
    num_labels = 200
    parents = {
        "two levels": np.append(np.full(20, -1), rng.integers(0, 20, num_labels - 20)),
        "deep": np.array([rng.integers(-1, row) if row > 3 else -1 for row in range(num_labels)]),
        "flat": np.full(num_labels, -1),
    }[shape].astype(np.int64)
    labels = rng.normal(size=(num_labels, 16)).astype(np.float32)
    images = rng.normal(size=(40, 16)).astype(np.float32)
    check_against_loop(parents, labels, images, Probing(method=method, beam=3, logit_scale=20.0, num_candidates=12))


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_does_not_depend_on_its_batch(method):
    rng = np.random.default_rng(1)
    parents = np.append(np.full(30, -1), rng.integers(0, 30, 470)).astype(np.int64)
    labels = rng.normal(size=(500, 64)).astype(np.float32)
    labels[100:200] = labels[200:300]  # ties
    images = rng.normal(size=(CHUNK + 40, 64)).astype(np.float32)
    probe = Probe(parents, places(500), labels, Probing(method=method))
    whole = vars(probe(images))
    for rows in (slice(0, 1), slice(5, 12), slice(CHUNK - 3, CHUNK + 8), slice(0, 0)):
        for name, value in vars(probe(images[rows])).items():
            np.testing.assert_array_equal(value, whole[name][rows], err_msg=name)


# Two countries, at cosines 0.8 and 0.6 of the image (1, 0, 0), and their cities.
PARENTS = np.array([-1, -1, 0, 0, 1, 1], np.int64)
COSINES = np.array([0.8, 0.6, 0.1, 0.3, 0.9, 0.2])
IMAGE = np.array([[1, 0]], np.float32)


def probe_by_hand(parents=PARENTS, cosines=COSINES, **parameters):
    labels = np.stack([cosines, np.sqrt(1 - np.square(cosines))], axis=1).astype(np.float32)
    return Probe(parents, places(len(parents)), labels, Probing(logit_scale=10.0, **parameters))(IMAGE)


def test_greedy_takes_the_best_city_of_the_best_country():
    found = probe_by_hand(num_candidates=3)
    assert found.cells.tolist() == [[3, 2, 3]]
    country, city = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-2))
    np.testing.assert_allclose(found.candidate_probability, [[country * city, country * (1 - city), 0]], rtol=1e-5)


def test_a_beam_finds_the_sure_city_of_the_second_country():
    """Country 1 has 0.119, its city 4 almost all of that; country 0's cities share 0.88 as 0.88 to 0.12."""
    found = probe_by_hand(method="beam", beam=2, num_candidates=4)
    country = 1 / (1 + math.exp(-2))
    city = 1 / (1 + math.exp(-7))
    assert found.cells.tolist() == [[3, 4, 2, 5]]
    expected = [country**2, (1 - country) * city, country * (1 - country), (1 - country) * (1 - city)]
    np.testing.assert_allclose(found.candidate_probability[0], expected, rtol=1e-5)
    even = probe_by_hand(cosines=np.array([0.62, 0.6, 0.3, 0.3, 0.9, 0.2]), method="beam", beam=2, num_candidates=4)
    assert even.cells[0, 0] == 4, "the better product wins over the better country"
    np.testing.assert_array_equal(even.top_latlon, places(6)[:1])


def test_a_beam_wider_than_the_first_level_takes_it_all():
    wide = probe_by_hand(method="beam", beam=50, num_candidates=4)
    assert wide.cells.tolist() == [[3, 4, 2, 5]]
    np.testing.assert_allclose(wide.candidate_probability.sum(), 1)


@pytest.mark.parametrize(
    ("cosines", "cells"),
    [
        ([0.8, 0.6, 0.1, 0.3, 0.9, 0.2], [0, 1, 0]),  # no city is as similar as its country: the country
        ([0.8, 0.6, 0.1, 0.8, 0.9, 0.2], [0, 1, 0]),  # as similar is not more similar
        ([0.8, 0.6, 0.1, 0.81, 0.9, 0.2], [3, 2, 3]),  # more similar
        ([0.6, 0.6, 0.61, 0.61, 0.9, 0.2], [2, 3, 2]),  # of equals, the lowest row
    ],
)
def test_a_tree_is_left_where_no_child_is_more_similar(cosines, cells):
    assert probe_by_hand(cosines=np.array(cosines), method="tree", num_candidates=3).cells.tolist() == [cells]


def test_a_tree_of_three_levels_multiplies_the_whole_way():
    parents = np.array([-1, -1, 0, 0, 2, 2], np.int64)
    cosines = np.array([0.3, 0.2, 0.5, 0.4, 0.7, 0.6])
    found = probe_by_hand(parents, cosines, method="tree", num_candidates=2)
    share = 1 / (1 + math.exp(-1))
    assert found.cells.tolist() == [[4, 5]]
    np.testing.assert_allclose(found.candidate_probability, [[share**3, share**2 * (1 - share)]], rtol=1e-5)
    np.testing.assert_array_equal(found.top_latlon, places(6)[:1])


@pytest.mark.parametrize("method", METHODS)
def test_a_label_without_children_answers_itself(method):
    found = probe_by_hand(np.array([-1, -1, 1], np.int64), np.array([0.8, 0.6, 0.9]), method=method, num_candidates=3)
    assert found.cells[0, 0] == 0
    np.testing.assert_allclose(found.candidate_probability[0, 0], 1 / (1 + math.exp(-2)), rtol=1e-5)
    np.testing.assert_array_equal(found.latlon, places(3)[:1])


def test_an_only_label_is_certain():
    found = probe_by_hand(np.array([-1], np.int64), np.array([-0.5]), num_candidates=2)
    assert found.cells.tolist() == [[0, 0]]
    assert found.candidate_probability.tolist() == [[1.0, 0.0]]
    assert found.spread_km.tolist() == [0.0]


def test_the_spread_weighs_distances_by_probability():
    found = probe_by_hand(num_candidates=3)
    latlon = places(6)
    far = great_circle_km(latlon[3], latlon[2])
    np.testing.assert_allclose(found.spread_km, [(1 - 1 / (1 + math.exp(-2))) * far], rtol=1e-5)


def test_lengths_of_features_do_not_matter():
    labels = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
    image = np.random.default_rng(3).normal(size=(2, 4)).astype(np.float32)
    found = Probe(PARENTS, places(6), labels, Probing())(image)
    longer = Probe(PARENTS, places(6), labels * 8, Probing())(image / 4)
    np.testing.assert_array_equal(found.candidate_probability, longer.candidate_probability)


def test_a_sharp_scale_keeps_the_order_where_probabilities_vanish():
    found = probe_by_hand(num_candidates=2)
    labels = np.stack([COSINES, np.sqrt(1 - np.square(COSINES))], axis=1).astype(np.float32)
    sharp = Probe(PARENTS, places(6), labels, Probing(logit_scale=1e5, num_candidates=2))(IMAGE)
    np.testing.assert_array_equal(sharp.cells, found.cells)
    assert sharp.candidate_probability.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam": 0}, "beam=0"),
        ({"num_candidates": 0}, "num_candidates=0"),
        ({"logit_scale": 0.0}, "logit_scale=0.0"),
        ({"logit_scale": math.nan}, "logit_scale=nan"),
    ],
)
def test_parameters_that_can_not_work(change, message):
    with pytest.raises(ValueError, match=message):
        Probing(**change)


def test_an_unknown_method():
    with pytest.raises((ValueError, TypeCheckError), match="best"):
        Probing(method="best")


@pytest.mark.parametrize("parents", [[0, -1], [-1, 1], [-1, -2], [1, 0]])
def test_a_parent_must_come_first(parents):
    with pytest.raises(ValueError, match="earlier rows"):
        Probe(np.array(parents), places(2), np.ones((2, 3), np.float32), Probing())


def test_features_that_can_not_be_compared():
    probe = Probe(PARENTS, places(6), np.ones((6, 3), np.float32), Probing())
    with pytest.raises(ValueError, match="4 features an image, 3 a label"):
        probe(np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="images are not finite"):
        probe(np.full((1, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match="labels are not finite"):
        Probe(PARENTS, places(6), np.full((6, 3), np.inf, np.float32), Probing())
    with pytest.raises(ValueError, match="0 parents"):
        Probe(PARENTS[:0], places(0), np.ones((0, 3), np.float32), Probing())
