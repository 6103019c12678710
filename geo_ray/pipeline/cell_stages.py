"""The stages of a bundle of cells: rank, search, refine. Shapes: K cells, M members, D features."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geo_ray.cells.partition_file import read_partition
from geo_ray.index.refine import Matches, Refined, gated, nearest_distance, rank_cells, refine, refine_by_neighbours
from geo_ray.models.bundle import CELLS, open_bundle
from geo_ray.models.head_file import read_head
from geo_ray.pipeline.columns import Batch, Column, located
from geo_ray.pipeline.stage import Runtime, Stage

MATCHES = ("prototype_distance", "member_distance", "member_latlon")  # the fields of index.refine.Matches


@dataclass(frozen=True, kw_only=True)
class RankCells:
    """Image features to the most probable cells by the geocell head."""

    bundle: str
    num_features: int
    num_cells: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The features."""
        return ("image_features",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """Cell numbers and their probabilities among all cells, (K,) each, most probable first."""
        return (
            Column(name="cells", dtype="int64", shape=(self.num_cells,), fill=0),
            Column(name="cell_probabilities", dtype="float32", shape=(self.num_cells,), fill=0.0),
        )

    def build(self, runtime: Runtime) -> Stage:
        """Loads the head."""
        bundle = open_bundle(self.bundle)
        weight, bias = read_head(bundle)
        weight = weight.T.astype(np.float64)  # or the batch's size would show in the last digits, as in index.shard
        rank = _ranked(weight, bias, runtime.search_device)

        def run(batch: Batch) -> Batch:
            features, temperature = batch["image_features"], bundle.refinement.logit_temperature
            cells, probability = rank(features, self.num_cells, temperature)
            return {"cells": cells, "cell_probabilities": probability}

        return run


def _ranked(weight: np.ndarray, bias: np.ndarray, device: str | None) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """What ranks cells by features, given how many and the temperature."""
    if device is not None:
        from geo_ray.index.on_device import DeviceHead  # which needs torch

        return DeviceHead(weight, bias, device).rank

    def rank(features: np.ndarray, num_cells: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        return rank_cells(features @ weight + bias, num_cells, temperature)

    return rank


@dataclass(frozen=True, kw_only=True)
class SearchPrototypes:
    """The nearest prototype and members in each candidate cell."""

    bundle: str
    num_cells: int
    num_members: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The features and the candidate cells."""
        return ("image_features", "cells")

    @property
    def writes(self) -> tuple[Column, ...]:
        """Distances in feature space, inf where there is nothing, and the members' places in degrees."""
        k, m = self.num_cells, self.num_members
        return (
            Column(name="prototype_distance", dtype="float32", shape=(k,), fill=np.inf),
            Column(name="member_distance", dtype="float32", shape=(k, m), fill=np.inf),
            Column(name="member_latlon", dtype="float64", shape=(k, m, 2), fill=0.0),
        )

    def build(self, runtime: Runtime) -> Stage:
        """Asks the runtime for a searcher."""
        searcher = runtime.searcher(self.bundle)
        members = open_bundle(self.bundle).refinement.members

        def run(batch: Batch) -> Batch:
            found = searcher.search(batch["cells"], batch["image_features"], self.num_members, members)
            return dict(vars(found))

        return run


@dataclass(frozen=True, kw_only=True)
class SearchMembers:
    """The nearest members of all candidate cells together, of those that hold the refinement's share of probability."""

    bundle: str
    num_members: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The features, the candidate cells and their probabilities."""
        return ("image_features", "cells", "cell_probabilities")

    @property
    def writes(self) -> tuple[Column, ...]:
        """Distances, inf where there is nothing, and the members' places in degrees, nearest first."""
        m = self.num_members
        return (
            Column(name="neighbour_distance", dtype="float64", shape=(m,), fill=np.inf),
            Column(name="neighbour_latlon", dtype="float64", shape=(m, 2), fill=0.0),
        )

    def build(self, runtime: Runtime) -> Stage:
        """Asks the runtime for a searcher."""
        searcher = runtime.searcher(self.bundle)
        refinement = open_bundle(self.bundle).refinement

        def run(batch: Batch) -> Batch:
            cells = gated(batch["cells"], batch["cell_probabilities"], refinement.gate)
            found = searcher.neighbours(cells, batch["image_features"], self.num_members, refinement.measure)
            return {"neighbour_distance": found.distance, "neighbour_latlon": found.latlon}

        return run


@dataclass(frozen=True, kw_only=True)
class RefineByMembers:
    """Cells and the nearest members among them to one point, and every candidate's point and probability."""

    bundle: str
    num_cells: int

    @property
    def reads(self) -> tuple[str, ...]:
        """What ``RankCells`` and ``SearchMembers`` found."""
        return ("cells", "cell_probabilities", "neighbour_distance", "neighbour_latlon")

    @property
    def writes(self) -> tuple[Column, ...]:
        """As ``Refine``."""
        return located(self.num_cells)

    def build(self, runtime: Runtime) -> Stage:
        """Loads the cells' centres."""
        bundle = open_bundle(self.bundle)
        centers = read_partition(bundle.path(CELLS)).centers

        def run(batch: Batch) -> Batch:
            places, probability = centers[batch["cells"]], batch["cell_probabilities"]
            near = batch["neighbour_distance"], batch["neighbour_latlon"]
            refined = refine_by_neighbours(probability, places, *near, bundle.refinement)
            return _located(refined, batch["cells"], places, batch["neighbour_distance"])

        return run


def _located(refined: Refined, cells: np.ndarray, places: np.ndarray, distance: np.ndarray) -> Batch:
    """The columns that ``Describe`` reads; ``distance`` is that of the nearest members."""
    return {
        **vars(refined),
        "cells": cells,
        "feature_distance": nearest_distance(distance),
        "spread_km": refined.spread_km,
        "top_latlon": places[:, 0],
    }


@dataclass(frozen=True, kw_only=True)
class Refine:
    """Cells and their nearest members to one point, and every candidate's point and probability."""

    bundle: str
    num_cells: int

    @property
    def reads(self) -> tuple[str, ...]:
        """What ``RankCells`` and ``SearchPrototypes`` found."""
        return ("cells", "cell_probabilities", *MATCHES)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The point, the candidates, and the best cell's centre before refinement."""
        return located(self.num_cells)

    def build(self, runtime: Runtime) -> Stage:
        """Loads the cells' centres."""
        bundle = open_bundle(self.bundle)
        centers = read_partition(bundle.path(CELLS)).centers

        def run(batch: Batch) -> Batch:
            found = Matches(**{name: batch[name] for name in MATCHES})
            places = centers[batch["cells"]]
            refined = refine(batch["cell_probabilities"], places, found, bundle.refinement)
            return _located(refined, batch["cells"], places, found.member_distance)

        return run
