"""Fitting what validation data decide: the radius of an answer, and the parameters of the refinement."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float, Float64

from geo_ray.geo.calibration import RadiusCalibration

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    P = TypeVar("P", bound=DataclassInstance)
else:
    P = TypeVar("P")  # beartype can't resolve a bound that exists for type checkers alone


def conformal_quantile(errors: Float[np.ndarray, "n"], coverage: float) -> float:
    """The error that a new one stays below with at least this probability (Vovk et al. 2005; split conformal).

    The ceil((n + 1) * coverage)-th smallest, or the largest where there are too few.
    """
    if len(errors) == 0:
        raise ValueError("no errors to take a quantile of")
    rank = min(int(np.ceil((len(errors) + 1) * coverage)), len(errors))
    return float(np.sort(errors)[rank - 1])


def fit_radius(
    spread_km: Float[np.ndarray, "n"], error_km: Float[np.ndarray, "n"], num_bins: int = 20
) -> RadiusCalibration:
    """Radii by bins of equally many validation answers; they never shrink as the spread grows."""
    if len(spread_km) < num_bins:
        raise ValueError(f"{len(spread_km)} validation answers are too few for {num_bins} bins")
    edges = np.unique(np.quantile(spread_km, np.arange(1, num_bins) / num_bins))
    bins = np.searchsorted(edges, spread_km, side="right")
    groups = [error_km[bins == number] for number in range(len(edges) + 1)]
    edges, groups = _without_empty(edges, groups)
    half, most = (np.array([conformal_quantile(group, share) for group in groups]) for share in (0.5, 0.9))
    return RadiusCalibration(
        edges=tuple(edges.tolist()),
        radius_km_50=tuple(np.maximum.accumulate(half).tolist()),
        radius_km_90=tuple(np.maximum.accumulate(most).tolist()),
    )


def _without_empty(edges: Float64[np.ndarray, "b"], groups: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Join each empty bin, which equal spreads leave anywhere, to the bin before it; the first, to the one after."""
    kept = np.flatnonzero([len(group) for group in groups])
    return edges[kept[1:] - 1], [groups[number] for number in kept]


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
