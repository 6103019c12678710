"""What a set of errors in km comes to.

Everywhere, NaN is an image without an answer. It counts as a miss in ``accuracy_at_km`` and as 0 points in
``geoguessr_score``, so that no answer is never better than a wrong one; median and mean are of the answers alone.
Each image has a vote of its own, or the weight that it is given.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

# PIGEON's (evaluation/metrics.py). Street, city, region, country and continent are 1, 25, 200, 750 and 2500 (Vo et al.
# 2017, IM2GPS3k).
THRESHOLDS_KM = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 750.0, 1000.0, 2500.0)
MAIN_THRESHOLDS_KM = (1.0, 25.0, 200.0, 750.0, 2500.0)
MAX_GEOGUESSR_POINTS = 5000
GEOGUESSR_SCALE_KM = 1492.7  # PIGEON: evaluation/metrics.py

Weights = Float[np.ndarray, "n"] | None


def is_within(distance_km: Float64[np.ndarray, "n"], threshold_km: float) -> Bool[np.ndarray, "n"]:
    """Whether each error is below the threshold.

    Strictly below, as PIGEON's code has it (``evaluation/metrics.py``); this is the one place that compares.
    """
    return np.asarray(distance_km < threshold_km)


def geoguessr_points(distance_km: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """round(5000 exp(-d / 1492.7)) for each image."""
    points = np.rint(MAX_GEOGUESSR_POINTS * np.exp(-distance_km / GEOGUESSR_SCALE_KM))
    return np.where(np.isnan(points), 0.0, points)


def accuracy_at_km(distance_km: Float64[np.ndarray, "n"], threshold_km: float, weights: Weights = None) -> float:
    """The share of images with an error below the threshold; NaN for no images."""
    return weighted_mean(is_within(distance_km, threshold_km), weights)


def median_error_km(distance_km: Float64[np.ndarray, "n"], weights: Weights = None) -> float:
    """The median error of the answers; NaN if there are none."""
    return weighted_median(distance_km, weights)


def mean_error_km(distance_km: Float64[np.ndarray, "n"], weights: Weights = None) -> float:
    """The mean error of the answers; NaN if there are none."""
    return weighted_mean(distance_km, weights)


def geoguessr_score(distance_km: Float64[np.ndarray, "n"], weights: Weights = None) -> float:
    """The mean of ``geoguessr_points``; NaN for no images."""
    return weighted_mean(geoguessr_points(distance_km), weights)


def error_metrics(distance_km: Float64[np.ndarray, "n"], weights: Weights = None) -> dict[str, Any]:
    """All of the above by name, as ``metrics.json`` has them: None where there is no value, since JSON has no NaN."""
    shares = {f"{km:g}": none_if_nan(accuracy_at_km(distance_km, km, weights)) for km in THRESHOLDS_KM}
    return {
        "median_error_km": none_if_nan(median_error_km(distance_km, weights)),
        "mean_error_km": none_if_nan(mean_error_km(distance_km, weights)),
        "accuracy_at_km": shares,
        "geoguessr_score": none_if_nan(geoguessr_score(distance_km, weights)),
    }


def weighted_mean(values: Shaped[np.ndarray, "n"], weights: Weights = None) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    known = ~np.isnan(values)
    if not known.any():
        return float("nan")
    return float(np.average(values[known], weights=None if weights is None else weights[known]))


def weighted_median(values: Float[np.ndarray, "n"], weights: Weights = None) -> float:
    """The value that half of the weight lies at or below, among those that are not NaN; NaN if all are.

    Where exactly half lies at or below a value, the middle between it and the next one.
    """
    known = ~np.isnan(values)
    if not known.any():
        return float("nan")
    if weights is None:
        return float(np.median(values[known]))
    order = np.argsort(values[known], kind="stable")
    ordered, held = values[known][order], np.cumsum(weights[known][order], dtype=np.float64)
    half = held[-1] / 2
    at = min(int(np.searchsorted(held, half * (1 - 1e-12))), len(held) - 1)
    is_exactly_half = at + 1 < len(held) and np.isclose(held[at], half, rtol=1e-12, atol=0.0)
    return float((ordered[at] + ordered[at + is_exactly_half]) / 2)


def none_if_nan(value: float) -> float | None:
    """The value for JSON."""
    return None if np.isnan(value) else float(value)
