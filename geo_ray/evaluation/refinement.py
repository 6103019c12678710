"""Fitting the refinement of a bundle of cells, and measuring its options, on images whose places are known.

Shapes: N images, D features, C cells.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int

from geo_ray.cells.partition_file import read_partition
from geo_ray.evaluation.calibration import coordinate_search
from geo_ray.geo.sphere import great_circle_km
from geo_ray.index.refine import (
    Matches,
    Refined,
    Refinement,
    gated,
    nearest_distance,
    rank_cells,
    refine,
    refine_by_neighbours,
)
from geo_ray.index.shard import Neighbours, Searcher, open_shard
from geo_ray.models.bundle import CELLS, INDEX, Bundle
from geo_ray.models.head_file import read_head

CHOICES: dict[str, Sequence[Any]] = {
    "logit_temperature": (0.7, 0.85, 1.0, 1.2, 1.5),
    "temperature": (0.05, 0.08, 0.125, 0.2, 0.35, 0.7, 1.5),  # times the median distance to the nearest prototype
    "num_cells": (1, 5, 10, 20, 40),
    "blend_km": (0.0, 20.0, 30.0, 40.0, 60.0, 80.0),
    "member_temperature": (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.45),  # times that to the nearest member
    "max_distance_km": (300.0, 1000.0, 20100.0),
    "average_km": (0.0, 250.0, 1000.0),
    "gate": (0.5, 0.8, 0.9, 0.95, 0.99, 1.0),
}

# What is tried further on where the best choice is the last one, or the first.
WIDENED = ("logit_temperature", "temperature", "blend_km", "member_temperature")
MOST_STEPS = 8  # further on, in either direction


def fitted_fields(parameters: Refinement) -> tuple[str, ...]:
    """The parameters that matter to a refinement of this kind, and that images can tell."""
    if parameters.method == "neighbours":
        fields: tuple[str, ...] = ("logit_temperature", "num_cells", "gate")
    else:
        fields = ("logit_temperature", "num_cells", "temperature", "max_distance_km")
    return (*fields, "blend_km", "member_temperature") if parameters.num_members > 1 else fields


@dataclass(kw_only=True)
class KnownImages:
    """Images with features and true places (degrees), and what answers them: a head, cells' centres, and an index.

    Searches are done once for all parameters that can share them. ``max_cells`` is the most that are ever searched.
    """

    features: Float32[np.ndarray, "N D"]
    latlon: Float64[np.ndarray, "N 2"]
    weight: Float32[np.ndarray, "C D"]
    bias: Float32[np.ndarray, "C"]
    centers: Float64[np.ndarray, "C 2"]
    searcher: Searcher
    weights: Float64[np.ndarray, "N"] | None = None  # of the images; None: one each
    max_cells: int = 40
    _found: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._logits = self.features @ self.weight.T + self.bias
        self.max_cells = min(self.max_cells, len(self.centers))
        self._cells, _ = rank_cells(self._logits, self.max_cells, 1.0)

    def answer(self, parameters: Refinement) -> Refined:
        """What the images are answered with these parameters."""
        return self._answer(parameters)[0]

    def located(self, parameters: Refinement) -> dict[str, np.ndarray]:
        """What the graph would locate with them, by column."""
        refined, cells, distance = self._answer(parameters)
        return {
            **vars(refined),
            "cells": cells,
            "feature_distance": nearest_distance(distance),
            "spread_km": refined.spread_km,
        }

    def _answer(self, parameters: Refinement) -> tuple[Refined, Int[np.ndarray, "N K"], np.ndarray]:
        """Answers, the cells they were looked for in, and the distances of the members that were found."""
        k = parameters.num_cells
        if k > self.max_cells:
            raise ValueError(f"num_cells={k} is more than the {self.max_cells} that are searched")
        cells, probability = rank_cells(self._logits, k, parameters.logit_temperature)
        places = self.centers[cells]
        if parameters.method == "neighbours":
            near = self._neighbours(gated(cells, probability, parameters.gate), parameters)
            refined = refine_by_neighbours(probability, places, near.distance, near.latlon, parameters)
            return refined, cells, near.distance
        found = Matches(**{name: v[:, :k] for name, v in vars(self._matches(parameters)).items()})
        return refine(probability, places, found, parameters), cells, found.member_distance

    def errors_km(self, parameters: Refinement) -> Float64[np.ndarray, "N"]:
        """How far each answer is from the truth."""
        return great_circle_km(self.answer(parameters).latlon, self.latlon)

    def centre_errors_km(self) -> Float64[np.ndarray, "N"]:
        """How far the most probable cell's centre is from the truth."""
        return great_circle_km(self.centers[self._cells[:, 0]], self.latlon)

    def loss(self, parameters: Refinement) -> float:
        """The mean of log(1 + km): an error of 10 km instead of 5 counts like one of 1,000 instead of 500."""
        return float(np.average(np.log1p(self.errors_km(parameters)), weights=self.weights))

    def fit(self, start: Refinement, choices: Mapping[str, Sequence[Any]] = CHOICES) -> Refinement:
        """The best of these choices: for each number of cells, one parameter after the other.

        What is best for few cells is far from it for many, so that a search from one of them stays there.
        """
        others = {name: values for name, values in choices.items() if name != "num_cells"}
        numbers = [k for k in choices.get("num_cells", (start.num_cells,)) if k <= self.max_cells]
        starts = [dataclasses.replace(start, num_cells=k) for k in numbers]
        best = min((coordinate_search(one, others, self.loss) for one in starts), key=self.loss)
        for name in WIDENED:
            if len(others.get(name, ())) > 1:
                best = self._widened(best, name, sorted(others[name]))
        return best

    def choices(self, names: Sequence[str]) -> dict[str, Sequence[Any]]:
        """``CHOICES`` of these parameters for ``fit``; temperatures are in the distances that these images have.

        PIGEON's 1.6 is one of features of another length, and says nothing of others.
        """
        found = self._matches(Refinement(num_members=1))
        units = {"temperature": _median_nearest(found.prototype_distance),
                 "member_temperature": _median_nearest(found.member_distance[..., 0])}  # fmt: skip
        return {name: tuple(float(f"{v * units[name]:.3g}") for v in CHOICES[name]) if name in units else CHOICES[name]
                for name in names}  # fmt: skip

    def _widened(self, best: Refinement, name: str, values: Sequence[float]) -> Refinement:
        """The best of a parameter's values beyond the choices, as long as each step further on is better."""
        least = self.loss(best)
        for edge, inner in ((values[-1], values[-2]), (values[0], values[1])):
            if getattr(best, name) != edge:
                continue
            for _ in range(MOST_STEPS):
                here = getattr(best, name)
                further = here * edge / inner if inner and edge else here + edge - inner
                if further <= 0:
                    break
                changed: dict[str, Any] = {name: float(f"{further:.3g}")}
                trial = dataclasses.replace(best, **changed)
                if (loss := self.loss(trial)) >= least:
                    break
                best, least = trial, loss
        return best

    def _matches(self, parameters: Refinement) -> Matches:
        key = ("matches", parameters.members, parameters.num_members)
        if key not in self._found:
            asked = (parameters.num_members, parameters.members)
            self._found[key] = self.searcher.search(self._cells, self.features, *asked)
        matches: Matches = self._found[key]
        return matches

    def _neighbours(self, cells: Int[np.ndarray, "N K"], parameters: Refinement) -> Neighbours:
        key = (parameters.num_cells, parameters.gate, parameters.logit_temperature, parameters.measure,
               parameters.num_members)  # fmt: skip
        if key not in self._found:
            asked = (parameters.num_members, parameters.measure)
            self._found[key] = self.searcher.neighbours(cells, self.features, *asked)
        neighbours: Neighbours = self._found[key]
        return neighbours


def _median_nearest(distance: Float32[np.ndarray, "N K"]) -> float:
    """The median over images of the distance to what is nearest; 1 where nothing was found."""
    nearest = distance.min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    return float(np.median(nearest)) if len(nearest) and np.median(nearest) > 0 else 1.0


def known_images(
    bundle: Bundle,
    features: Float32[np.ndarray, "N D"],
    latlon: Float64[np.ndarray, "N 2"],
    weights: Float64[np.ndarray, "N"] | None = None,
    searcher: Searcher | None = None,
) -> KnownImages:
    """Images for fitting a bundle of cells, with its head, its cells and its index, or what searches another."""
    weight, bias = read_head(bundle)
    return KnownImages(
        features=features,
        latlon=latlon,
        weight=weight,
        bias=bias,
        centers=read_partition(bundle.path(CELLS)).centers,
        searcher=searcher or open_shard(bundle.path(INDEX)),
        weights=weights,
    )
