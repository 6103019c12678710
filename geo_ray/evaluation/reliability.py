"""Whether probabilities are what they say: of all that is stated with 0.8, four fifths should be right."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from geo_ray.evaluation.bootstrap import Bootstrap, Groups, Measure, interval
from geo_ray.geo.metrics import none_if_nan, weighted_mean

NUM_BINS = 15  # of equal width (Guo et al. 2017, "On calibration of modern neural networks")


def reliability(
    probability: Float64[np.ndarray, "n"], right: Bool[np.ndarray, "n"], bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """What is stated and what is right, bin by bin, by place; None where nothing is stated.

    ``ece`` is the expected calibration error: the mean of their distances, by the weight of the bins. Images without a
    probability are left out.
    """
    known = ~np.isnan(probability)
    if not known.any():
        return None
    weights = np.where(known, bootstrap.groups.weights, 0.0)
    bins = bins_of(probability)
    numbers = np.unique(bins[known]).tolist()
    gaps = {str(number): Measure(values=_gap(probability, right, bins, number, known)) for number in numbers}
    draws = bootstrap.replicates(gaps, weights)
    low, high = interval(np.sum([np.abs(draw) for draw in draws.values()], axis=0), bootstrap.groups.count)
    return {
        "ece": float(sum(abs(gap.estimate(weights)) for gap in gaps.values())),
        "ece_interval_95": None if np.isnan(low) else [low, high],
        "stated": weighted_mean(probability, weights),
        "right": weighted_mean(right[known], weights[known]),
        "bins": [_bin(probability, right, weights, bins == number, number) for number in numbers],
    }


def bins_of(probability: Float64[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The bin of each probability; -1 where there is none."""
    numbers = np.clip(np.nan_to_num(probability, nan=0.0) * NUM_BINS, 0, NUM_BINS - 1).astype(np.int64)
    return np.where(np.isnan(probability), -1, numbers)


def _gap(
    probability: Float64[np.ndarray, "n"],
    right: Bool[np.ndarray, "n"],
    bins: Int[np.ndarray, "n"],
    number: int,
    known: Bool[np.ndarray, "n"],
) -> Float64[np.ndarray, "n"]:
    """What an image of the bin is stated too high by, 0 of another: the mean is the bin's part of the error."""
    return np.where(known, np.where(bins == number, probability - right, 0.0), np.nan)


def _bin(
    probability: Float64[np.ndarray, "n"],
    right: Bool[np.ndarray, "n"],
    weights: Float64[np.ndarray, "n"],
    inside: Bool[np.ndarray, "n"],
    number: int,
) -> dict[str, Any]:
    return {
        "from": number / NUM_BINS,
        "to": (number + 1) / NUM_BINS,
        "stated": weighted_mean(probability[inside], weights[inside]),
        "right": weighted_mean(right[inside], weights[inside]),
        "share": float(weights[inside].sum() / weights.sum()),
    }


def answered_curve(
    certainty: Float64[np.ndarray, "n"],
    hits: Mapping[str, Bool[np.ndarray, "n"]],
    bootstrap: Bootstrap,
    num_steps: int = 20,
) -> list[dict[str, Any]]:
    """What accuracy is where only the most certain answers are given: by share of places, from all down to few.

    ``certainty`` is larger where an answer is surer, NaN where there is none, which is never among the surest.
    """
    groups = bootstrap.groups
    curve = []
    for step in range(num_steps, 0, -1):
        share = step / num_steps
        weights = surest(certainty, groups, share)
        measures = {name: Measure(values=hit) for name, hit in hits.items()}
        draws = bootstrap.replicates(measures, weights)
        num_groups = len(np.unique(groups.numbers[weights > 0]))
        ranges = {name: interval(draws[name], num_groups) for name in hits}
        curve.append(
            {"share": share}
            | {name: measure.estimate(weights) for name, measure in measures.items()}
            | {f"{name}_interval_95": [none_if_nan(bound) for bound in bounds] for name, bounds in ranges.items()}
        )
    return curve


def surest(certainty: Float64[np.ndarray, "n"], groups: Groups, share: float) -> Float64[np.ndarray, "n"]:
    """Weights by place of the most certain images, that together are this share of the places.

    Of equally certain ones at the edge all count in part, as they would on average in any order.
    """
    values = np.nan_to_num(certainty, nan=-np.inf)
    order = np.argsort(-values, kind="stable")
    held = np.cumsum(groups.weights[order]) / groups.count
    at = min(int(np.searchsorted(held, share * (1 - 1e-9))), len(held) - 1)
    edge = values == values[order[at]]
    above = values > values[order[at]]
    before, tied = (groups.weights[rows].sum() / groups.count for rows in (above, edge))
    part = min(1.0, max(0.0, (share - before) / tied))
    return np.where(above, groups.weights, np.where(edge, part * groups.weights, 0.0))
