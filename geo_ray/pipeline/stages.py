"""The stages of the graph. Shapes: N rows, K candidate cells, M members, S image side, D features."""

from dataclasses import dataclass

import numpy as np
import torch

from geo_ray.atlas.cities import gazetteer
from geo_ray.cells.store import read_partition
from geo_ray.index.refine import Matches, rank_cells, refine
from geo_ray.models.bundle import CELLS, open_bundle
from geo_ray.models.clip import open_encoder, read_head
from geo_ray.models.preprocess import ImageProblem, decode_image
from geo_ray.pipeline.columns import ANSWER, Batch, Column
from geo_ray.pipeline.stage import Runtime, Stage

MATCHES = ("prototype_distance", "member_distance", "member_latlon")  # the fields of index.refine.Matches


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Bytes to uint8 pixels of one size."""

    image_size: int
    max_pixels: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The bytes."""
        return ("bytes",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The pixels, (S, S, 3)."""
        return (Column(name="pixels", dtype="uint8", shape=(self.image_size, self.image_size, 3), fill=0),)

    def build(self, runtime: Runtime) -> Stage:
        """A stage that needs nothing loaded."""
        return self._run

    def _run(self, batch: Batch) -> Batch:
        contents = batch["bytes"]
        answer = {column.name: column.blank(len(contents)) for column in self.writes}
        answer["problem"] = np.full(len(contents), "", dtype=object)
        for row, content in enumerate(contents):
            try:
                answer["pixels"][row] = decode_image(content, self.image_size, self.max_pixels)
            except ImageProblem as problem:
                answer["problem"][row] = problem.code
        return answer


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Pixels to image features by the bundle's tower."""

    bundle: str
    image_size: int
    num_features: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The pixels."""
        return ("pixels",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The features, (D,)."""
        return (Column(name="image_features", dtype="float32", shape=(self.num_features,), fill=0.0),)

    def build(self, runtime: Runtime) -> Stage:
        """Loads the tower onto the runtime's device."""
        torch.set_num_threads(runtime.num_threads)
        encoder = open_encoder(open_bundle(self.bundle), runtime.device)

        def run(batch: Batch) -> Batch:
            features = encoder(batch["pixels"])
            finite = np.isfinite(features).all(axis=1)
            return {"image_features": features, "problem": np.where(finite, "", "no_answer").astype(object)}

        return run


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
        """Loads the head; it runs on the CPU, being a hundredth of the tower's work."""
        bundle = open_bundle(self.bundle)
        weight, bias = read_head(bundle)
        weight = weight.T.astype(np.float64)  # or the batch's size would show in the last digits, as in index.shard
        temperature = bundle.refinement.logit_temperature

        def run(batch: Batch) -> Batch:
            cells, probability = rank_cells(batch["image_features"] @ weight + bias, self.num_cells, temperature)
            return {"cells": cells, "cell_probabilities": probability}

        return run


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
        """The point, the chosen candidate, the candidates, and the spread in km that the radius comes from."""
        k = self.num_cells
        return (
            Column(name="latlon", dtype="float64", shape=(2,), fill=np.nan),
            Column(name="winner", dtype="int64", fill=0),
            Column(name="candidate_latlon", dtype="float64", shape=(k, 2), fill=np.nan),
            Column(name="candidate_probability", dtype="float64", shape=(k,), fill=0.0),
            Column(name="spread_km", dtype="float64", fill=np.nan),
        )

    def build(self, runtime: Runtime) -> Stage:
        """Loads the cells' centres."""
        bundle = open_bundle(self.bundle)
        centers = read_partition(bundle.path(CELLS)).centers

        def run(batch: Batch) -> Batch:
            found = Matches(**{name: batch[name] for name in MATCHES})
            refined = refine(batch["cell_probabilities"], centers[batch["cells"]], found, bundle.refinement)
            return vars(refined) | {"spread_km": refined.spread_km}

        return run


@dataclass(frozen=True, kw_only=True)
class Describe:
    """What was found, as the columns that every kind of bundle answers."""

    bundle: str
    num_reported: int

    @property
    def reads(self) -> tuple[str, ...]:
        """What ``Refine`` answered, and the cells."""
        return ("cells", "latlon", "winner", "candidate_latlon", "candidate_probability", "spread_km")

    @property
    def writes(self) -> tuple[Column, ...]:
        """The answer's columns."""
        return ANSWER

    def build(self, runtime: Runtime) -> Stage:
        """Loads the cell ids, the calibration and the gazetteer."""
        bundle = open_bundle(self.bundle)
        partition = read_partition(bundle.path(CELLS))
        calibration = bundle.calibration()
        names = gazetteer()

        def run(batch: Batch) -> Batch:
            rows = np.arange(len(batch["winner"]))
            top = partition.centers[batch["cells"][:, 0]]
            radius_50, radius_90 = calibration.radii_km(batch["spread_km"])
            places = names.places_of(batch["latlon"])
            return {
                "latitude": batch["latlon"][:, 0],
                "longitude": batch["latlon"][:, 1],
                "cell_id": partition.cell_ids[batch["cells"][rows, batch["winner"]]],
                "probability": batch["candidate_probability"][rows, batch["winner"]],
                "radius_km_50": radius_50,
                "radius_km_90": radius_90,
                "country": places.country,
                "region": places.region,
                "place": places.city,
                "candidates": self._candidates(batch, partition.cell_ids),
                "cell_latitude": top[:, 0],
                "cell_longitude": top[:, 1],
                "bundle_fingerprint": np.full(len(rows), bundle.fingerprint, dtype=object),
            }

        return run

    def _candidates(self, batch: Batch, cell_ids: np.ndarray) -> np.ndarray:
        """A list of the most probable candidates for each row, most probable first."""
        probability = batch["candidate_probability"]
        order = np.argsort(-probability, axis=1, kind="stable")[:, : self.num_reported]
        ids = cell_ids[np.take_along_axis(batch["cells"], order, axis=1)]
        shares = np.take_along_axis(probability, order, axis=1)
        points = np.take_along_axis(batch["candidate_latlon"], order[..., None], axis=1)
        column = np.empty(len(order), dtype=object)
        for row in range(len(order)):
            column[row] = [
                {"cell_id": cell, "probability": p, "latitude": lat, "longitude": lon}
                for cell, p, (lat, lon) in zip(ids[row], shares[row].tolist(), points[row].tolist(), strict=True)
            ]
        return column
