"""Whether probabilities are what they say: of all that is stated with 0.8, four fifths should be right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from geo_ray.evaluation.bootstrap import Bootstrap, Groups, Measure, interval
from geo_ray.geo.metrics import none_if_nan

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
    stated, correct, held = (
        _by_group(bootstrap.groups, bins, known, weights[known] * values)
        for values in (probability[known], right[known], 1.0)
    )
    drawn, total = bootstrap.draw(stated - correct), bootstrap.draw(held).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = interval(np.abs(drawn).sum(axis=1) / total, bootstrap.groups.count)
    stated, correct, held = (sums.sum(axis=0) for sums in (stated, correct, held))
    return {
        "ece": float(np.abs(stated - correct).sum() / held.sum()),
        "ece_interval_95": None if np.isnan(low) else [low, high],
        "stated": float(stated.sum() / held.sum()),
        "right": float(correct.sum() / held.sum()),
        "bins": [
            {
                "from": number / NUM_BINS,
                "to": (number + 1) / NUM_BINS,
                "stated": float(stated[number] / held[number]),
                "right": float(correct[number] / held[number]),
                "share": float(held[number] / held.sum()),
            }
            for number in np.flatnonzero(held).tolist()
        ],
    }


def bins_of(probability: Float64[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The bin of each probability; -1 where there is none."""
    numbers = np.clip(np.nan_to_num(probability, nan=0.0) * NUM_BINS, 0, NUM_BINS - 1).astype(np.int64)
    return np.where(np.isnan(probability), -1, numbers)


def _by_group(
    groups: Groups,
    bins: Int[np.ndarray, "n"],
    known: Bool[np.ndarray, "n"],
    values: Float64[np.ndarray, "m"],
) -> Float64[np.ndarray, "G b"]:
    """Sums of the known images' values, by group and bin."""
    cells = groups.numbers[known] * NUM_BINS + bins[known]
    return np.bincount(cells, values, groups.count * NUM_BINS).reshape(groups.count, NUM_BINS).astype(np.float64)


def answered_curve(
    certainty: Float64[np.ndarray, "n"],
    hits: Mapping[str, Bool[np.ndarray, "n"]],
    bootstrap: Bootstrap,
    num_steps: int = 20,
) -> list[dict[str, Any]]:
    """What accuracy is where only the most certain answers are given: by share of places, from all down to few.

    ``certainty`` is larger where an answer is surer, NaN where there is none, which is never among the surest.
    """
    groups, curve = bootstrap.groups, []
    ranking = Ranking.of(certainty, groups)
    for step in range(num_steps, 0, -1):
        share = step / num_steps
        weights = ranking.surest(share)
        measures = {name: Measure(values=hit) for name, hit in hits.items()}
        draws = bootstrap.replicates(measures, weights)
        num_groups = int(np.count_nonzero(np.bincount(groups.numbers, weights)))
        ranges = {name: interval(draws[name], num_groups) for name in hits}
        curve.append(
            {"share": share}
            | {name: measure.estimate(weights) for name, measure in measures.items()}
            | {f"{name}_interval_95": [none_if_nan(bound) for bound in bounds] for name, bounds in ranges.items()}
        )
    return curve


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Images by certainty: ``negated`` is it below 0, in order, and ``held`` the share of places down to each."""

    values: Float64[np.ndarray, "n"]
    negated: Float64[np.ndarray, "n"]
    held: Float64[np.ndarray, "n"]
    groups: Groups

    @classmethod
    def of(cls, certainty: Float64[np.ndarray, "n"], groups: Groups) -> "Ranking":
        """``certainty`` is NaN where there is no answer, which is never among the surest."""
        values = np.where(np.isnan(certainty), -np.inf, certainty)
        negated = -values
        order = np.argsort(negated)
        held = np.cumsum(groups.weights[order]) / groups.count
        return cls(values=values, negated=negated[order], held=held, groups=groups)

    def surest(self, share: float) -> Float64[np.ndarray, "n"]:
        """Weights by place of the most certain images, that together are this share of the places.

        Of equally certain ones at the edge all count in part, as they would on average in any order.
        """
        at = min(int(np.searchsorted(self.held, share * (1 - 1e-9))), len(self.held) - 1)
        edge = -self.negated[at]
        first, last = (int(np.searchsorted(self.negated, -edge, side)) for side in ("left", "right"))
        before = self.held[first - 1] if first else 0.0
        part = min(1.0, max(0.0, (share - before) / (self.held[last - 1] - before)))
        weights = self.groups.weights
        return np.where(self.values > edge, weights, np.where(self.values == edge, part * weights, 0.0))
