import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_ray.evaluation.bootstrap import (
    LEAST_GROUPS,
    Bootstrap,
    Groups,
    Measure,
    groups_by_block,
    groups_by_column,
    interval,
)
from geo_ray.geo.metrics import weighted_mean, weighted_median

NAN = float("nan")


def groups(numbers):
    return Groups(numbers=np.asarray(numbers, np.int64), described="test")


def times_drawn(bootstrap, weights):
    """The weight of each image in every draw."""
    counts = np.concatenate([drawn for _, drawn in bootstrap._draws()], axis=1)
    return (counts[:, bootstrap.groups.numbers] * weights).astype(float)


def slow_replicates(bootstrap, measure, weights):
    """Every draw by itself, with each image as often as its group was drawn."""
    one = weighted_median if measure.is_median else weighted_mean
    return np.array([one(measure.values[row > 0], row[row > 0]) for row in times_drawn(bootstrap, weights)])


@pytest.mark.parametrize("by_place", [True, False])
def test_replicates_are_those_of_every_draw_by_itself(by_place):
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 40, 300)
    numbers[:40] = np.arange(40)
    errors = rng.exponential(30, 300)
    errors[rng.random(300) < 0.1] = NAN
    bootstrap = Bootstrap(groups=groups(numbers), num_draws=50)
    weights = bootstrap.groups.weights if by_place else np.ones(300)
    measures = {"mean": Measure(values=errors), "near": Measure(values=errors < 25)}
    found = bootstrap.replicates(measures, weights)
    for name, measure in measures.items():
        np.testing.assert_allclose(found[name], slow_replicates(bootstrap, measure, weights), rtol=1e-6)
    median = Measure(values=errors, is_median=True)
    drawn = bootstrap.replicates({"median": median}, weights)["median"]
    known = ~np.isnan(errors)
    for value, row in zip(drawn, times_drawn(bootstrap, weights)[:, known], strict=True):
        assert row[errors[known] <= value].sum() >= row.sum() / 2 - 1e-4
        assert row[errors[known] < value].sum() <= row.sum() / 2 + 1e-4


def test_medians_of_many_images_are_those_of_every_draw_by_itself():
    """More values than are looked at first, nine tenths of them in one group: by place they are a hundredth."""
    rng = np.random.default_rng(5)
    numbers = np.concatenate([np.zeros(4500, np.int64), np.arange(1, 501)])
    errors = np.concatenate([rng.exponential(1, 4500), rng.exponential(100, 500)])
    bootstrap = Bootstrap(groups=groups(numbers), num_draws=60)
    median = Measure(values=errors, is_median=True)
    for weights in (bootstrap.groups.weights, np.ones(5000)):
        drawn = bootstrap.replicates({"median": median}, weights)["median"]
        for value, row in zip(drawn, times_drawn(bootstrap, weights), strict=True):
            half, slack = row.sum() / 2, 2 * row.max() + 2e-3 * row.sum()  # of so many values some are skipped
            assert row[errors <= value].sum() >= half - slack
            assert row[errors < value].sum() <= half + slack
    low, high = interval(bootstrap.replicates({"median": median}, bootstrap.groups.weights)["median"], 501)
    assert low < median.estimate(bootstrap.groups.weights) < high


def test_draws_are_poisson():
    drawn = np.concatenate([counts.ravel() for _, counts in Bootstrap(groups=groups(np.arange(2000)))._draws()])
    assert drawn.mean() == pytest.approx(1.0, abs=0.005)
    assert drawn.var() == pytest.approx(1.0, abs=0.01)
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.002)


def test_groups_in_several_pieces_give_the_same_draws_for_all_figures(monkeypatch):
    monkeypatch.setattr("geo_ray.evaluation.bootstrap.GROUPS_AT_ONCE", 7)
    rng = np.random.default_rng(2)
    values = rng.random(100)
    bootstrap = Bootstrap(groups=groups(np.arange(100) % 30), num_draws=20)
    weights = np.ones(100)
    for measure in (Measure(values=values), Measure(values=values, is_median=True)):
        found = bootstrap.replicates({"x": measure}, weights)["x"]
        np.testing.assert_allclose(found, slow_replicates(bootstrap, measure, weights), atol=0.03)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """Images of a group are alike: by photo as by place, nine or more in ten intervals hold the mean of all places."""
    rng, held = np.random.default_rng(3), {True: 0, False: 0}
    for trial in range(60):
        numbers = np.repeat(np.arange(80), rng.integers(1, 4, 80))
        values = (10 + rng.normal(0, 3, 80))[numbers]
        bootstrap = Bootstrap(groups=groups(numbers), num_draws=200, seed=trial)
        for by_place in held:
            weights = bootstrap.groups.weights if by_place else None
            low, high = interval(bootstrap.replicates({"m": Measure(values=values)}, weights)["m"], 80)
            held[by_place] += low <= 10 <= high
    assert min(held.values()) >= 52


def test_many_alike_photos_of_one_place_narrow_nothing():
    """An interval by photo, as if they were independent, would be a tenth as wide."""
    rng = np.random.default_rng(4)
    of_place = rng.normal(0, 1, 50)
    few, many = np.arange(50), np.repeat(np.arange(50), 100)
    widths = []
    for numbers in (few, many):
        found = Bootstrap(groups=groups(numbers)).replicates({"m": Measure(values=of_place[numbers])})["m"]
        widths.append(np.ptp(interval(found, 50)))
    assert widths[0] == pytest.approx(widths[1])


def test_few_groups_have_no_interval():
    assert np.isnan(interval(np.arange(100.0), LEAST_GROUPS - 1)).all()
    assert not np.isnan(interval(np.arange(100.0), LEAST_GROUPS)).any()
    assert np.isnan(interval(np.full(5, NAN), 100)).all()


def test_without_any_value():
    measures = {"mean": Measure(values=np.full(3, NAN)), "median": Measure(values=np.full(3, NAN), is_median=True)}
    found = Bootstrap(groups=groups([0, 1, 2]), num_draws=5).replicates(measures)
    assert np.isnan(found["mean"]).all()
    assert np.isnan(found["median"]).all()


def test_groups_by_hand():
    by_block = groups_by_block(np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.1], [0.1, 180.0], [0.1, -180.0]]))
    assert by_block.numbers.tolist() == [1, 1, 2, 0, 0]
    assert by_block.weights.tolist() == [0.5, 0.5, 1.0, 0.5, 0.5]
    assert by_block.effective_count == pytest.approx(25 / 9)
    by_user = groups_by_column(np.array(["b", "", "a", "b", ""], dtype=object), "user")
    assert by_user.count == 4
    assert by_user.numbers[0] == by_user.numbers[3]
    assert len(set(by_user.numbers[[1, 2, 4]].tolist())) == 3
    assert groups_by_column(np.zeros(0, dtype=object), "user").count == 0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 5)), min_size=1, max_size=30))
def test_a_weighted_median_is_that_of_repeated_values(pairs):
    values, times = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    assert weighted_median(values, times.astype(float)) == pytest.approx(np.median(np.repeat(values, times)))


def test_weights_by_hand():
    values = np.array([3.0, NAN, 1.0, 2.0])
    assert weighted_median(values, np.array([1.0, 9.0, 1 / 3, 1 / 3])) == 3.0
    assert weighted_mean(values, np.array([1.0, 9.0, 0.5, 0.5])) == pytest.approx(4.5 / 2)
    assert weighted_median(np.array([1.0, 2.0]), np.array([1 / 3, 1 / 3])) == 1.5
    assert np.isnan(weighted_median(np.array([NAN]), np.ones(1)))
