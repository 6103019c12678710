import numpy as np
import pytest
from prediction_rows import answer

from geo_ray.evaluation import figures
from geo_ray.evaluation.comparison import compare, load

NAN = float("nan")


def test_every_known_error_is_in_one_bin():
    km = np.array([0.0, 0.05, 0.1, 8.0, 8.1, 20015.0, NAN])
    counts = figures.histogram(km)
    assert sum(counts) == 6
    assert counts[0] == 3
    assert counts[-1] == 1
    edges = figures.bin_edges()
    assert counts[int(np.searchsorted(edges, 8.0, side="right")) - 1] == 2


def test_cumulative_curve_counts_no_answer_as_a_miss():
    shares = np.array(figures.cumulative(np.array([1.0, 10.0, 100.0, NAN])))
    at = figures.curve_km()
    assert shares[at < 1.0].max() == 0.0
    assert shares[at > 100.0].min() == shares.max() == 0.75
    assert (np.diff(shares) >= 0).all()
    assert set(figures.cumulative(np.zeros(0))) == {0.0}


def test_calibration_groups_by_stated_radius(make_run, make_truth):
    # Ten answers 1 degree (111 km) off: the five with the small radius don't hold the truth.
    rows = [answer(f"i{n}", 1.0, 0.0, radius_km_50=1.0, radius_km_90=50.0 if n < 5 else 200.0) for n in range(10)]
    truth = make_truth("id,lat,lon\n" + "".join(f"i{n},0,0\n" for n in range(10)))
    table = figures.calibration(compare(*load(str(make_run(rows)), str(truth))))
    assert [row["num_images"] for row in table] == [10, 2, 2, 2, 2, 2]
    assert [row["covered_90"] for row in table] == [0.5, 0.0, 0.0, 0.5, 1.0, 1.0]
    assert {row["covered_50"] for row in table} == {0.0}
    assert (table[0]["from_km"], table[0]["to_km"]) == (50.0, 200.0)


def test_problems_by_count():
    problems = np.array(["", "empty", "undecodable", "undecodable", ""], dtype=object)
    ids = np.array(list("abcde"), dtype=object)
    assert figures.problem_counts(problems, ids) == [
        {"code": "undecodable", "count": 2, "examples": ["c", "d"]},
        {"code": "empty", "count": 1, "examples": ["b"]},
    ]


def test_sample_is_limited_repeatable_and_of_what_can_be_drawn():
    shown = np.arange(1000) % 2 == 0
    np.testing.assert_array_equal(figures.sample_rows(shown, 500), np.arange(0, 1000, 2))
    rows = figures.sample_rows(shown, 100)
    assert len(set(rows.tolist())) == 100
    assert (rows % 2 == 0).all()
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, figures.sample_rows(shown, 100))


@pytest.mark.parametrize(
    ("parts", "label"),
    [
        (("Lyon", "Rhône", "FR"), "Lyon, Rhône, FR"),
        (("Luxembourg", "Luxembourg", "LU"), "Luxembourg, LU"),
        (("",) * 3, ""),
    ],
)
def test_place_labels(parts, label):
    assert figures.place_labels(*(np.array([part], dtype=object) for part in parts)) == [label]
