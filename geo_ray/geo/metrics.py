"""What a set of errors in km comes to.

Everywhere, NaN is an image without an answer. It counts as a miss in ``accuracy_at_km`` and as 0 points in
``geoguessr_score``, so that no answer is never better than a wrong one; median and mean are of the answers alone.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

THRESHOLDS_KM = (1.0, 25.0, 200.0, 750.0, 2500.0)  # street, city, region, country, continent (Vo et al. 2017, IM2GPS3k)
MAX_GEOGUESSR_POINTS = 5000
GEOGUESSR_SCALE_KM = 1492.7  # PIGEON: evaluation/metrics.py


def accuracy_at_km(distance_km: Float64[np.ndarray, "n"], threshold_km: float) -> float:
    """The share of images with an error below the threshold; NaN for no images.

    Strictly below, as PIGEON's code has it (``evaluation/metrics.py``); this is the one place that compares.
    """
    return _mean(distance_km < threshold_km)


def median_error_km(distance_km: Float64[np.ndarray, "n"]) -> float:
    """The median error of the answers; NaN if there are none."""
    answered = distance_km[~np.isnan(distance_km)]
    return float(np.median(answered)) if len(answered) else float("nan")


def mean_error_km(distance_km: Float64[np.ndarray, "n"]) -> float:
    """The mean error of the answers; NaN if there are none."""
    return _mean(distance_km[~np.isnan(distance_km)])


def geoguessr_score(distance_km: Float64[np.ndarray, "n"]) -> float:
    """The mean of round(5000 exp(-d / 1492.7)) points; NaN for no images."""
    points = np.rint(MAX_GEOGUESSR_POINTS * np.exp(-distance_km / GEOGUESSR_SCALE_KM))
    return _mean(np.where(np.isnan(points), 0.0, points))


def error_metrics(distance_km: Float64[np.ndarray, "n"]) -> dict[str, Any]:
    """All of the above by name, as ``metrics.json`` has them: None where there is no value, since JSON has no NaN."""
    return {
        "median_error_km": none_if_nan(median_error_km(distance_km)),
        "mean_error_km": none_if_nan(mean_error_km(distance_km)),
        "accuracy_at_km": {f"{km:g}": none_if_nan(accuracy_at_km(distance_km, km)) for km in THRESHOLDS_KM},
        "geoguessr_score": none_if_nan(geoguessr_score(distance_km)),
    }


def none_if_nan(value: float) -> float | None:
    """The value for JSON."""
    return None if np.isnan(value) else float(value)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
