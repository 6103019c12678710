"""Errors of several ways on the same images, by place, and what the places can tell of their differences."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from geo_ray.evaluation.bootstrap import LEVEL, Bootstrap, Groups, Measure, interval
from geo_ray.evaluation.differences import paired
from geo_ray.geo.metrics import error_metrics, is_within

SHARES_KM = (25.0, 200.0)


def place_row(error_km: Float64[np.ndarray, "n"], groups: Groups) -> dict[str, Any]:
    """The metrics by place, and an interval of each that is shown."""
    draws = Bootstrap(groups=groups).replicates(_measures(error_km), groups.weights)
    ranges = {name: list(interval(draw, groups.count)) for name, draw in draws.items()}
    return error_metrics(error_km, groups.weights) | {f"intervals_{LEVEL}": ranges}


def difference_row(
    error_km: Float64[np.ndarray, "n"], reference_km: Float64[np.ndarray, "n"], groups: Groups
) -> dict[str, Any]:
    """What one way has more than another, drawn in pairs by place; ``shown`` where the interval leaves out 0."""
    return paired(_measures(error_km), _measures(reference_km), Bootstrap(groups=groups), groups.weights)


def _measures(error_km: Float64[np.ndarray, "n"]) -> dict[str, Measure]:
    shares = {f"within_{km:g}_km": Measure(values=is_within(error_km, km)) for km in SHARES_KM}
    return {"median_error_km": Measure(values=error_km, is_median=True), **shares}


def row_text(row: dict[str, Any], difference: dict[str, Any] | None = None) -> str:
    """Median and shares by place, and the difference in the median to the way that is compared with."""
    low, high = row[f"intervals_{LEVEL}"]["median_error_km"]
    shares = "".join(f"{row['accuracy_at_km'][f'{km:g}']:9.1%}" for km in SHARES_KM)
    text = f"{row['median_error_km']:7.2f} km ({low:5.2f} to {high:5.2f}){shares}"
    if difference is None:
        return text
    one = difference["median_error_km"]
    verdict = "" if one["shown"] else ", not shown"
    bounds = "{:+.2f} to {:+.2f}".format(*(one[f"interval_{LEVEL}"] or [np.nan, np.nan]))
    return f"{text}   {one['value']:+6.2f} km ({bounds}{verdict})"


def head_text(reference: str) -> str:
    """What stands above such rows."""
    return f"{'median by place':>29}{'25 km':>9}{'200 km':>9}   median against {reference}"
