"""What is stated holds, by place, and the search over parameters."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from known import known_answers

from geo_ray.evaluation.bootstrap import Groups
from geo_ray.evaluation.calibration import (
    coordinate_search,
    coverage_range,
    fit_calibration,
    fit_likeness,
    fit_logistic,
    fit_probability,
    fit_radius,
    fit_score,
    folds,
    weighted_quantile,
)
from geo_ray.geo.metrics import weighted_mean


@dataclass(frozen=True, kw_only=True)
class Bowl:
    x: float = 0.0
    y: float = 0.0


def test_quantile_by_hand():
    errors = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    ones = np.ones(9)
    assert weighted_quantile(errors, ones, 0.5) == 5  # the ceil((n + 1) / 2)th
    assert weighted_quantile(errors, ones, 0.9) == 9
    assert weighted_quantile(errors, ones, 0.99) == 9  # too few to tell
    assert weighted_quantile(np.array([3.0]), np.ones(1), 0.5) == 3


def test_a_quantile_in_two_layers_by_hand():
    """Three groups with a vote each, of four beside a new one: half of it is two votes."""
    errors = np.array([1.0, 1.0, 1.0, 1.0, 5.0, 9.0])
    weights = np.array([0.25, 0.25, 0.25, 0.25, 1.0, 1.0])
    assert weighted_quantile(errors, weights, 0.5) == 5
    assert weighted_quantile(errors, weights, 0.25) == 1
    assert weighted_quantile(errors, weights, 0.75) == 9


def test_quantile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no errors"):
        weighted_quantile(np.zeros(0), np.zeros(0), 0.5)


def test_radii_hold_by_place_and_not_by_photo_of_one_city():
    known = known_answers(num_places=3000)
    fit, new = known, known_answers(num_places=3000, seed=1)
    half, most = fit_radius(fit).radii_km(new.feature_distance, new.spread_km)
    weights = new.groups.weights
    assert weighted_mean(new.error_km <= half, weights) == pytest.approx(0.5, abs=0.03)
    assert weighted_mean(new.error_km <= most, weights) == pytest.approx(0.9, abs=0.02)
    order = np.argsort(half, kind="stable")
    for part in np.array_split(order, 5):
        assert weighted_mean(new.error_km[part] <= half[part], weights[part]) == pytest.approx(0.5, abs=0.08)
    assert half.min() < half.max() / 1.5  # it tells certain answers from others
    assert (half <= most).all()


def test_radii_never_shrink_as_the_score_grows():
    for seed in range(5):
        radius = fit_radius(known_answers(num_places=200, seed=seed), num_bins=15)
        assert (np.diff(radius.radius_km_50) >= 0).all()
        assert (np.diff(radius.radius_km_90) >= 0).all()


def test_pooling_is_not_biased_as_a_running_maximum_is():
    """Errors that have nothing to do with the score: every bin should have about the radius of all."""
    known = known_answers(num_places=1000)
    rng = np.random.default_rng(1)
    flat = dataclasses.replace(known, error_km=rng.exponential(10, len(known)))
    radius = fit_radius(flat, num_bins=20)
    half, _ = radius.radii_km(flat.feature_distance, flat.spread_km)
    assert weighted_mean(flat.error_km <= half, flat.groups.weights) == pytest.approx(0.5, abs=0.02)


def test_the_score_sees_what_errors_go_with():
    score = fit_score(known_answers(num_places=2000))
    assert score.feature_distance == pytest.approx(4.0, abs=0.5)  # log errors were drawn with it
    assert score.log_spread == pytest.approx(0.0, abs=0.1)


def test_equal_scores_are_one_bin():
    known = known_answers(num_places=60)
    alike = dataclasses.replace(known, feature_distance=np.ones(len(known)), spread_km=np.ones(len(known)))
    assert fit_radius(alike, num_bins=5).edges == ()


@pytest.mark.parametrize("seed", range(10))
def test_few_distinct_scores_leave_no_empty_bin(seed):
    rng = np.random.default_rng(seed)
    known = known_answers(num_places=40, seed=seed)
    known = dataclasses.replace(known, feature_distance=rng.integers(0, 6, len(known)).astype(float))
    radius = fit_radius(known, num_bins=10)
    bins = np.searchsorted(radius.edges, radius.score(known.feature_distance, known.spread_km), side="right")
    assert set(bins) == set(range(len(radius.radius_km_50)))


def test_coverage_is_uncertain_where_places_are_few():
    low, high = coverage_range(19, 0.5)
    assert (low, high) == pytest.approx((0.299, 0.701), abs=0.03)
    assert np.ptp(coverage_range(400, 0.9)) < 0.07
    assert coverage_range(5, 0.99)[1] <= 1.0


def test_probabilities_are_found_again():
    """Candidates were ranked by the square of true probabilities, with one tenth of images outside of them all."""
    known = known_answers(num_places=4000, sharpness=2.0)
    fitted = fit_probability(known)
    assert fitted.power == pytest.approx(0.5, abs=0.05)
    new = known_answers(num_places=4000, seed=1, sharpness=2.0)
    stated = fitted.candidates(new.candidate_probability)
    weights = new.groups.weights
    own, right = stated[:, 0], new.true_candidate == 0
    for low in (0.3, 0.5, 0.7):
        near = (own >= low) & (own < low + 0.2)
        assert weighted_mean(right[near], weights[near]) == pytest.approx(
            weighted_mean(own[near], weights[near]), abs=0.05
        )
    country = fitted.country((stated * new.same_country).sum(axis=1))
    assert weighted_mean(country, weights) == pytest.approx(weighted_mean(new.right_country, weights), abs=0.02)


def test_a_correction_of_what_is_right_already_changes_little():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    fitted = fit_logistic(p, rng.random(20_000) < p, np.ones(20_000))
    assert fitted.slope == pytest.approx(1.0, abs=0.05)
    assert fitted.offset == pytest.approx(0.0, abs=0.05)


def test_all_right_does_not_run_away():
    fitted = fit_logistic(np.full(30, 0.8), np.full(30, True), np.ones(30))
    assert 0.8 < fitted(np.array([0.8]))[0] < 0.995


def test_false_alarms_are_as_stated_by_place():
    known, new = (known_answers(num_places=2000, seed=seed) for seed in (0, 1))
    likeness = fit_likeness(known.feature_distance, known.groups, level=0.05)
    alarms = likeness.is_unlike(likeness.p_value(new.feature_distance))
    assert weighted_mean(alarms, new.groups.weights) == pytest.approx(0.05, abs=0.02)
    assert likeness.is_unlike(likeness.p_value(np.array([10.0]))).all()
    assert len(likeness.distances) <= 513


def test_p_values_are_those_of_counting():
    known = known_answers(num_places=60)
    likeness = fit_likeness(known.feature_distance, known.groups)
    weights, count = known.groups.weights, known.groups.count
    for distance in np.linspace(0.0, 1.5, 50):
        slow = (1 + weights[known.feature_distance >= distance].sum()) / (count + 1)
        found = likeness.p_value(np.array([distance]))[0]
        assert found >= min(slow, 1.0) - 1e-9  # never less: of a long table only some steps are kept
        assert found <= slow * 1.05 + 1e-9


def test_few_places_call_nothing_unlike():
    groups = Groups(numbers=np.arange(10), described="made up")
    likeness = fit_likeness(np.arange(10.0), groups, level=0.05)
    assert not likeness.is_unlike(likeness.p_value(np.array([1e9]))).any()


def test_folds_keep_places_whole():
    known = known_answers(num_places=50)
    seen = np.zeros(len(known), int)
    for fit, held_out in folds(known.groups, 10, seed=0):
        assert not set(known.groups.numbers[fit]) & set(known.groups.numbers[held_out])
        seen[held_out] += 1
    assert (seen == 1).all()


def test_all_is_fitted_together():
    known = known_answers(num_places=100)
    calibration = fit_calibration(known)
    assert (calibration.num_images, calibration.num_places) == (len(known), 100)


def test_search_finds_the_best_of_each_field():
    choices = {"x": [1.0, 2.0, 3.0], "y": [-1.0, -2.0]}
    best = coordinate_search(Bowl(), choices, lambda p: (p.x - 2 + 0.5 * p.y) ** 2 + (p.y + 1) ** 2)
    assert best.y == -1
    assert best.x in {2.0, 3.0}
    assert coordinate_search(Bowl(x=9.0), {"x": [10.0]}, lambda p: p.x) == Bowl(x=9.0)


def test_search_ignores_what_is_not_a_number():
    assert coordinate_search(Bowl(), {"x": [1.0]}, lambda p: float("nan") if p.x else 5.0) == Bowl()


def test_images_with_no_known_one_near_have_the_widest_radius_and_are_the_most_unlike():
    known = known_answers(num_places=100)
    lost = np.flatnonzero(known.groups.numbers >= 90)
    known.feature_distance[lost] = np.inf
    calibration = fit_calibration(known)
    assert np.isfinite(calibration.radius.edges).all()
    assert np.isfinite(calibration.likeness.distances).all()
    half, _ = calibration.radius.radii_km(np.array([np.inf]), np.array([1.0]))
    assert half[0] == calibration.radius.radius_km_50[-1]
    assert calibration.likeness.p_value(np.array([np.inf]))[0] == pytest.approx(11 / 101)  # of ten places and itself
    nothing = dataclasses.replace(known, feature_distance=np.full(len(known), np.inf))
    assert fit_calibration(nothing).likeness.p_values == (1.0,)
