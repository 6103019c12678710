"""Fitting what validation data decide: radii, probabilities, likeness, and the parameters of the refinement.

Images of a place are alike, so places are what is counted: every group of images has one vote. Shapes: n images,
k candidates, G groups.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.optimize import minimize
from scipy.stats import beta

from geo_ray.evaluation.bootstrap import Groups
from geo_ray.geo.calibration import (
    TINY,
    Calibration,
    ErrorScore,
    Likeness,
    Logistic,
    ProbabilityCalibration,
    RadiusCalibration,
)
from geo_ray.geo.metrics import weighted_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    P = TypeVar("P", bound=DataclassInstance)
else:
    P = TypeVar("P")  # beartype can't resolve a bound that exists for type checkers alone

LEVEL = 0.05  # of the test of likeness: of images of the known kind one in twenty places' are called unlike
PLACES_PER_BIN = 30  # below it the correction of a 90 % radius for few places is larger than what a bin tells
MAX_BINS = 20
ENOUGH_PLACES = 200  # from here on coverage is within about 2 points of what is stated, in two thirds of the cases
MAX_STEPS = 512  # of the likeness' table
LOG_OTHER = float(np.log(0.01))  # what is expected beforehand for all that is no candidate
NUM_FOLDS = 5  # that tell how well what was fitted holds elsewhere


@dataclass(frozen=True, kw_only=True)
class KnownAnswers:
    """Answers to images of known places, as the graph gives them before they are described.

    ``true_candidate`` is which candidate is right, -1 where none of them is. ``same_region`` and ``same_country`` say
    which candidates lie in the answer's; the answer itself always does.
    """

    groups: Groups
    error_km: Float64[np.ndarray, "n"]
    feature_distance: Float64[np.ndarray, "n"]
    spread_km: Float64[np.ndarray, "n"]
    candidate_probability: Float64[np.ndarray, "n k"]
    winner: Int[np.ndarray, "n"]
    true_candidate: Int[np.ndarray, "n"]
    same_region: Bool[np.ndarray, "n k"]
    same_country: Bool[np.ndarray, "n k"]
    right_region: Bool[np.ndarray, "n"]
    right_country: Bool[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.error_km)

    def take(self, rows: Int[np.ndarray, "m"]) -> "KnownAnswers":
        """These of the answers; groups are numbered anew."""
        numbers = np.unique(self.groups.numbers[rows], return_inverse=True)[1].astype(np.int64)
        arrays = {name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return dataclasses.replace(self, groups=dataclasses.replace(self.groups, numbers=numbers), **arrays)


def fit_calibration(known: KnownAnswers, level: float = LEVEL) -> Calibration:
    """All that a bundle's numbers mean, on these images; radii and probabilities on those that are not unlike."""
    likeness = fit_likeness(known.feature_distance, known.groups, level)
    unlike = likeness.is_unlike(likeness.p_value(known.feature_distance))
    stated = known.take(np.flatnonzero(~unlike))
    return Calibration(
        radius=fit_radius(stated),
        probability=fit_probability(stated),
        likeness=likeness,
        num_images=len(known),
        num_places=known.groups.count,
    )


def cross_fitted(known: KnownAnswers, seed: int = 0) -> tuple[float, float]:
    """What radii that were fitted on other places hold of these: the 50 % and the 90 % ones, by place."""
    held = np.zeros((2, len(known)))
    for fit, held_out in folds(known.groups, min(NUM_FOLDS, known.groups.count), seed):
        part = known.take(held_out)
        radii = fit_radius(known.take(fit)).radii_km(part.feature_distance, part.spread_km)
        held[:, held_out] = [part.error_km <= radius for radius in radii]
    half, most = (weighted_mean(each, known.groups.weights) for each in held)
    return half, most


def folds(groups: Groups, num_folds: int, seed: int) -> Iterator[tuple[Int[np.ndarray, "a"], Int[np.ndarray, "b"]]]:
    """Rows to fit on and rows to look at, whole groups at a time, each group looked at once."""
    fold = np.random.default_rng(seed).permutation(groups.count) % num_folds
    for number in range(num_folds):
        held_out = fold[groups.numbers] == number
        yield np.flatnonzero(~held_out), np.flatnonzero(held_out)


# Radii


def weighted_quantile(errors: Float[np.ndarray, "n"], weights: Float64[np.ndarray, "n"], coverage: float) -> float:
    """The error that an image of a new group stays below with at least this probability.

    A group's images share its one vote (Dunn, Wasserman, Ramdas 2022, "Distribution-free prediction sets for two-layer
    hierarchical models", pooled distributions), and the new group has a vote beside them, as in split conformal
    prediction. The largest error where the votes are too few to tell.
    """
    if len(errors) == 0:
        raise ValueError("no errors to take a quantile of")
    order = np.argsort(errors, kind="stable")
    held = np.cumsum(weights[order])
    place = int(np.searchsorted(held, coverage * (held[-1] + 1) * (1 - 1e-12)))
    return float(errors[order[min(place, len(errors) - 1)]])


def fit_radius(known: KnownAnswers, num_bins: int | None = None) -> RadiusCalibration:
    """Radii by bins of equal weight of the score; they never shrink as it grows."""
    weights, score = known.groups.weights, fit_score(known)
    scores = score(known.feature_distance, known.spread_km)
    if num_bins is None:
        num_bins = int(np.clip(known.groups.count // PLACES_PER_BIN, 1, MAX_BINS))
    edges = _edges(scores, weights, num_bins)
    bins = np.searchsorted(edges, scores, side="right")
    half, most = (_rising(known.error_km, weights, bins, len(edges) + 1, coverage) for coverage in (0.5, 0.9))
    return RadiusCalibration(
        score=score,
        edges=tuple(edges.tolist()),
        radius_km_50=tuple(half.tolist()),
        radius_km_90=tuple(np.maximum(half, most).tolist()),
    )


def fit_score(known: KnownAnswers) -> ErrorScore:
    """The median of log(1 + km) (least absolute deviations: a few gross errors would bend a mean).

    Further from the known images, and wider spread, is never nearer.
    """
    near = np.isfinite(known.feature_distance)  # not where there was no known image to be near to
    columns = np.stack([np.ones(len(known)), known.feature_distance, np.log1p(known.spread_km)], axis=1)[near]
    log_error, weights = np.log1p(known.error_km[near]), known.groups.weights[near]
    if len(log_error) == 0:
        return ErrorScore()

    def loss(parameters: np.ndarray) -> float:
        return float(np.average(np.abs(log_error - columns @ parameters), weights=weights))

    bounds = [(None, None), (0.0, None), (0.0, None)]
    start = np.array([np.median(log_error), 1.0, 0.1])
    found = minimize(loss, start, method="Nelder-Mead", bounds=bounds, options={"maxiter": 1000}).x
    return ErrorScore(intercept=float(found[0]), feature_distance=float(found[1]), log_spread=float(found[2]))


def _edges(
    scores: Float64[np.ndarray, "n"], weights: Float64[np.ndarray, "n"], num_bins: int
) -> Float64[np.ndarray, "b"]:
    """Borders between bins of about equal weight, none of them empty: each border is a score of its upper bin."""
    order = np.argsort(scores, kind="stable")
    held = np.cumsum(weights[order])
    places = np.searchsorted(held, held[-1] * np.arange(1, num_bins) / num_bins)
    edges = np.unique(scores[order][places])
    return np.asarray(edges[(edges > scores.min()) & np.isfinite(edges)])


def _rising(
    errors: Float64[np.ndarray, "n"],
    weights: Float64[np.ndarray, "n"],
    bins: Int[np.ndarray, "n"],
    num_bins: int,
    coverage: float,
) -> Float64[np.ndarray, "b"]:
    """A quantile of each bin, none below the one before: neighbours that are not in order are taken as one bin.

    Pooling is isotonic regression (Ayer et al. 1955); a running maximum is too wide wherever one bin is by chance.
    """
    pools: list[tuple[list[int], float]] = []
    for number in range(num_bins):
        pools.append(([number], _quantile_of(errors, weights, bins, [number], coverage)))
        while len(pools) > 1 and pools[-2][1] > pools[-1][1]:
            joined = pools[-2][0] + pools[-1][0]
            pools[-2:] = [(joined, _quantile_of(errors, weights, bins, joined, coverage))]
    return np.concatenate([np.full(len(numbers), value) for numbers, value in pools])


def _quantile_of(
    errors: Float64[np.ndarray, "n"],
    weights: Float64[np.ndarray, "n"],
    bins: Int[np.ndarray, "n"],
    numbers: list[int],
    coverage: float,
) -> float:
    inside = (bins >= numbers[0]) & (bins <= numbers[-1])
    return weighted_quantile(errors[inside], weights[inside], coverage)


def coverage_range(num_places: int, coverage: float, share: float = 0.95) -> tuple[float, float]:
    """Where the coverage of radii that were fitted on so many places lies with this probability (Vovk 2012)."""
    rank = min(int(np.ceil((num_places + 1) * coverage)), num_places)
    low, high = beta.ppf([0.5 - share / 2, 0.5 + share / 2], rank, num_places + 1 - rank)
    return float(low), float(high)


# Probabilities


def fit_probability(known: KnownAnswers) -> ProbabilityCalibration:
    """Stated probabilities by log loss: of the right candidate, and of the answer's region and country."""
    weights = known.groups.weights
    power, other = _fit_candidates(known.candidate_probability, known.true_candidate, weights)
    candidates = ProbabilityCalibration(power=power, other=other).candidates(known.candidate_probability)
    in_region, in_country = ((candidates * same).sum(axis=1) for same in (known.same_region, known.same_country))
    return ProbabilityCalibration(
        power=power,
        other=other,
        region=fit_logistic(in_region, known.right_region, weights),
        country=fit_logistic(in_country, known.right_country, weights),
    )


def _fit_candidates(
    probability: Float64[np.ndarray, "n k"], true_candidate: Int[np.ndarray, "n"], weights: Float64[np.ndarray, "n"]
) -> tuple[float, float]:
    logs = np.log(np.maximum(probability, TINY))
    rows = np.arange(len(logs))
    at_true = np.where(true_candidate < 0, 0, true_candidate)

    def loss(parameters: np.ndarray) -> float:
        power, log_other = np.exp(parameters[0]), parameters[1]
        scores = np.concatenate([power * logs, np.full((len(logs), 1), log_other)], axis=1)
        top = scores.max(axis=1)
        total = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        right = np.where(true_candidate < 0, log_other, power * logs[rows, at_true])
        beforehand = parameters[0] ** 2 / 2 + (log_other - LOG_OTHER) ** 2 / 8  # normal, about no change
        return float(np.sum(weights * (total - right)) + beforehand)

    found = minimize(loss, np.array([0.0, LOG_OTHER]), method="Nelder-Mead", options={"maxiter": 500}).x
    return float(np.exp(found[0])), float(np.exp(found[1]))


def fit_logistic(
    probability: Float64[np.ndarray, "n"], right: Bool[np.ndarray, "n"], weights: Float64[np.ndarray, "n"]
) -> Logistic:
    """The correction of a probability that makes what came true most likely.

    The logarithm of the slope and the offset are taken for normal with variance 1 beforehand: a few places that are all
    right make nothing certain.
    """
    p = np.clip(probability, TINY, 1 - TINY)
    logit = np.log(p) - np.log1p(-p)

    def loss(parameters: np.ndarray) -> float:
        scores = np.exp(parameters[0]) * logit + parameters[1]
        signed = np.where(right, scores, -scores)
        return float(np.sum(weights * np.logaddexp(0, -signed)) + np.square(parameters).sum() / 2)

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"maxiter": 500}).x
    return Logistic(slope=float(np.exp(found[0])), offset=float(found[1]))


# Likeness


def fit_likeness(distance: Float64[np.ndarray, "n"], groups: Groups, level: float = LEVEL) -> Likeness:
    """The test of whether an image is like these: the share of places as far, one place more counted as the image's.

    With fewer than 1 / level - 1 places no image is far enough to be called unlike.
    """
    near = np.isfinite(distance)
    order = np.argsort(distance[near], kind="stable")
    ordered, weights = distance[near][order], groups.weights[near][order]
    beyond = groups.weights[~near].sum()
    at_least = beyond + np.append(np.cumsum(weights[::-1])[::-1], 0.0)  # the weight of images at least as far as each
    steps = np.unique(ordered)
    p_values = (1 + at_least[np.append(np.searchsorted(ordered, steps, side="left"), len(ordered))]) / (
        groups.count + 1
    )
    p_values = np.minimum(p_values, 1.0)
    kept = _kept_steps(p_values[:-1])
    return Likeness(
        level=level,
        distances=tuple(steps[kept].tolist()),
        p_values=tuple(p_values[np.append(0, kept + 1)].tolist()),  # the largest of what lies between two that are kept
    )


def _kept_steps(p_values: Float64[np.ndarray, "s"]) -> Int[np.ndarray, "m"]:
    """Which steps of a long table to keep, the last among them: evenly by the logarithm, so small ones stay exact."""
    if len(p_values) <= MAX_STEPS:
        return np.arange(len(p_values))
    wanted = np.geomspace(p_values[0], p_values[-1], MAX_STEPS)
    return np.unique(np.append(np.searchsorted(-p_values[:-1], -wanted[:-1]), len(p_values) - 1))


def coordinate_search(
    parameters: P, choices: Mapping[str, Sequence[object]], loss: Callable[[P], float], num_rounds: int = 2
) -> P:
    """The frozen dataclass ``parameters`` with each field of ``choices`` in turn set to its best value."""
    best, least = parameters, loss(parameters)
    for _ in range(num_rounds):
        for name, values in choices.items():
            for value in values:
                trial = dataclasses.replace(best, **{name: value})
                if (result := loss(trial)) < least:
                    best, least = trial, result
    return best
