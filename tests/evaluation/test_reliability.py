import numpy as np
import pytest

from geo_ray.evaluation.bootstrap import Bootstrap, Groups
from geo_ray.evaluation.reliability import NUM_BINS, answered_curve, bins_of, reliability


def bootstrap(numbers):
    return Bootstrap(groups=Groups(numbers=np.asarray(numbers, np.int64), described="test"), num_draws=100)


def test_by_hand():
    """Two places of one image, one of two: 0.9 is stated of the first, 0.1 of the others."""
    probability = np.array([0.9, 0.1, 0.1, 0.1])
    right = np.array([True, False, True, False])
    found = reliability(probability, right, bootstrap([0, 1, 2, 2]))
    assert found["stated"] == pytest.approx((0.9 + 0.1 + 0.1) / 3)
    assert found["right"] == pytest.approx((1 + 0 + 0.5) / 3)
    # of a third 0.1 too low, of two thirds a quarter is right and 0.1 stated
    assert found["ece"] == pytest.approx(0.1 / 3 + 2 / 3 * (0.25 - 0.1))
    low, high = found["bins"]
    assert (low["from"], low["to"]) == pytest.approx((1 / 15, 2 / 15))
    assert (low["stated"], low["right"], low["share"]) == pytest.approx((0.1, 0.25, 2 / 3))
    assert (high["stated"], high["right"], high["share"]) == pytest.approx((0.9, 1.0, 1 / 3))
    assert found["ece_interval_95"] is None  # of three places nothing can be told


def test_what_is_said_truly_has_no_error_and_what_is_not_has_its_own():
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    right = rng.random(20_000) < probability
    true = reliability(probability, right, bootstrap(np.arange(20_000)))
    assert true["ece"] < 0.02
    low, high = true["ece_interval_95"]
    assert low <= high < 0.03
    boasting = reliability(np.sqrt(probability), right, bootstrap(np.arange(20_000)))
    assert boasting["ece"] == pytest.approx(np.mean(np.sqrt(probability) - probability), abs=0.01)


def test_images_without_a_probability_are_left_out():
    probability = np.array([0.5, np.nan, 0.5])
    found = reliability(probability, np.array([True, True, False]), bootstrap([0, 1, 2]))
    assert (found["stated"], found["right"], found["ece"]) == (0.5, 0.5, 0.0)
    assert reliability(np.full(3, np.nan), np.zeros(3, bool), bootstrap([0, 1, 2])) is None


def test_bins_by_hand():
    assert bins_of(np.array([0.0, 1 / 15, 0.999, 1.0, np.nan])).tolist() == [0, 1, 14, NUM_BINS - 1, -1]


def test_answering_less_by_hand():
    """Four places, the surest of which is right: the fewer are answered, the more of these are right."""
    certainty = np.array([4.0, 3.0, 2.0, np.nan])
    hits = {"hit": np.array([True, False, True, False])}
    curve = answered_curve(certainty, hits, bootstrap([0, 1, 2, 3]), num_steps=4)
    assert [point["share"] for point in curve] == [1.0, 0.75, 0.5, 0.25]
    assert [point["hit"] for point in curve] == pytest.approx([0.5, 2 / 3, 0.5, 1.0])


def test_equally_sure_answers_count_alike_whatever_their_order():
    """A hundred places of one radius, the right ones first in the file: any half of them is half right."""
    hits = np.arange(100) < 50
    for order in (np.arange(100), np.arange(100)[::-1]):
        curve = answered_curve(np.ones(100), {"hit": hits[order]}, bootstrap(np.arange(100)), num_steps=4)
        assert [point["hit"] for point in curve] == pytest.approx([0.5] * 4)
        assert all(point["hit_interval_95"][0] < 0.5 < point["hit_interval_95"][1] for point in curve)


def test_an_interval_of_few_places_is_none_even_if_there_are_many_others():
    curve = answered_curve(np.arange(40.0), {"hit": np.ones(40, bool)}, bootstrap(np.arange(40)), num_steps=10)
    assert curve[0]["hit_interval_95"] == [1.0, 1.0]
    assert curve[-1]["hit_interval_95"] == [None, None]  # of four places


def test_answering_less_goes_by_place():
    """A hundred sure photos of one place are one of its two."""
    numbers = np.array([0] * 100 + [1])
    certainty = np.concatenate([np.full(100, 2.0), [1.0]])
    curve = answered_curve(certainty, {"hit": numbers == 0}, bootstrap(numbers), num_steps=2)
    assert [point["hit"] for point in curve] == pytest.approx([0.5, 1.0])
