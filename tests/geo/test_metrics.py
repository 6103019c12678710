import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_ray.geo.metrics import (
    THRESHOLDS_KM,
    accuracy_at_km,
    error_metrics,
    geoguessr_score,
    mean_error_km,
    median_error_km,
)

NAN = float("nan")


def test_by_hand():
    metrics = error_metrics(np.array([0.0, 0.5, 24.0, 150.0, 20000.0]))
    shares = {"1": 0.4, "5": 0.4, "10": 0.4, "25": 0.6, "50": 0.6, "100": 0.6}
    assert metrics["accuracy_at_km"] == shares | {"200": 0.8, "750": 0.8, "1000": 0.8, "2500": 0.8}
    assert metrics["median_error_km"] == 24.0
    assert metrics["mean_error_km"] == pytest.approx(20174.5 / 5)
    # 5000, 4998, 4920, 4522, 0: 5000 exp(-24/1492.7) = 4920.25, 5000 exp(-150/1492.7) = 4521.9
    assert metrics["geoguessr_score"] == pytest.approx((5000 + 4998 + 4920 + 4522 + 0) / 5)


def test_threshold_is_strict():
    assert accuracy_at_km(np.array([25.0, np.nextafter(25.0, 0)]), 25.0) == 0.5


def test_points_are_rounded_before_they_are_averaged():
    # 5000 exp(-d / 1492.7) = 4999.7 at d = 0.0896 km: two such images have 5,000 points each
    assert geoguessr_score(np.array([0.0896, 0.0896])) == 5000.0


def test_no_answer_is_a_miss_but_no_error():
    errors = np.array([10.0, NAN, 30.0, NAN])
    assert accuracy_at_km(errors, 2500.0) == 0.5
    assert median_error_km(errors) == 20.0
    assert mean_error_km(errors) == 20.0
    assert geoguessr_score(errors) == pytest.approx(geoguessr_score(np.array([10.0, 30.0])) / 2)


def test_without_any_answer():
    metrics = error_metrics(np.array([NAN, NAN]))
    assert metrics["median_error_km"] is None
    assert metrics["mean_error_km"] is None
    assert set(metrics["accuracy_at_km"].values()) == {0.0}
    assert metrics["geoguessr_score"] == 0.0


def test_without_any_image():
    metrics = error_metrics(np.zeros(0))
    assert metrics == {
        "median_error_km": None,
        "mean_error_km": None,
        "accuracy_at_km": dict.fromkeys(f"{km:g}" for km in THRESHOLDS_KM),
        "geoguessr_score": None,
    }
    json.dumps(metrics, allow_nan=False)


@given(st.lists(st.floats(0, 20016), min_size=1), st.randoms())
def test_order_does_not_matter_and_shares_grow(errors, random):
    shuffled = random.sample(errors, len(errors))
    a, b = error_metrics(np.array(errors)), error_metrics(np.array(shuffled))
    assert a["accuracy_at_km"] == b["accuracy_at_km"]
    assert a["median_error_km"] == b["median_error_km"]
    shares = [a["accuracy_at_km"][f"{km:g}"] for km in THRESHOLDS_KM]
    assert shares == sorted(shares)
    assert 0 <= a["geoguessr_score"] <= 5000
