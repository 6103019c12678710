"""Refinement of a cell guess by its prototypes and their members (PIGEON, section 3.4; reference: proto_refiner.py).

Shapes: N images, K candidate cells, M members a cell.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from geo_ray.geo.sphere import great_circle_km, spherical_mean


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Parameters of the refinement; the defaults are PIGEON's. The temperatures belong to the scale of the features.

    ``members`` says which members are compared with the image: those of the cell's nearest prototype, as in the paper,
    or all of the cell's. With ``blend_km`` above 0, the answer is not the nearest member alone: members of all
    candidate cells within that distance of it are averaged on the sphere, weighted by
    softmax(-distance / member_temperature), which can answer with a place between the known ones. ``nearness`` says
    whose distance d weighs a cell: its nearest prototype's, as in the paper, or its nearest member's, which is sharper
    where clusters are wide.
    """

    num_cells: int = 5
    temperature: float = 1.6
    max_distance_km: float = 1000.0
    members: Literal["prototype", "cell"] = "prototype"
    nearness: Literal["prototype", "member"] = "prototype"
    num_members: int = 1
    blend_km: float = 0.0
    member_temperature: float = 1.0
    logit_temperature: float = 1.0  # the head's logits are divided by it: calibrated cell probabilities

    def __post_init__(self) -> None:
        for name in ("num_cells", "num_members", "temperature", "member_temperature", "logit_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"refinement: {name}={getattr(self, name)} must be positive")
        if self.members not in ("prototype", "cell"):
            raise ValueError(f"refinement: members={self.members!r} must be 'prototype' or 'cell'")
        if self.nearness not in ("prototype", "member"):
            raise ValueError(f"refinement: nearness={self.nearness!r} must be 'prototype' or 'member'")
        if self.blend_km < 0 or self.max_distance_km < 0:
            raise ValueError(f"refinement: blend_km={self.blend_km}, max_distance_km={self.max_distance_km} below 0")


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What was found in each candidate cell; distances are Euclidean in feature space, inf where there is nothing."""

    prototype_distance: Float32[np.ndarray, "N K"]
    member_distance: Float32[np.ndarray, "N K M"]
    member_latlon: Float64[np.ndarray, "N K M 2"]


@dataclass(frozen=True, kw_only=True)
class Refined:
    """The answer for each image: point, its row among the candidates, every candidate's point and final probability."""

    latlon: Float64[np.ndarray, "N 2"]
    winner: Int[np.ndarray, "N"]
    candidate_latlon: Float64[np.ndarray, "N K 2"]
    candidate_probability: Float64[np.ndarray, "N K"]

    @property
    def spread_km(self) -> Float64[np.ndarray, "N"]:
        """Expected distance from the answer to a candidate drawn by its probability: what the radius is read from."""
        origin = np.broadcast_to(self.latlon[:, None], self.candidate_latlon.shape)
        share = self.candidate_probability / self.candidate_probability.sum(axis=1, keepdims=True)
        return np.asarray((share * great_circle_km(origin, self.candidate_latlon)).sum(axis=1))


def softmax(logits: Float[np.ndarray, "N K"]) -> Float64[np.ndarray, "N K"]:
    """Rows that sum to one; a row of -inf alone becomes uniform instead of NaN."""
    top = logits.max(axis=1, keepdims=True)
    shifted = np.exp(np.where(np.isfinite(top), logits.astype(np.float64) - np.where(np.isfinite(top), top, 0.0), 0.0))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def rank_cells(
    logits: Float[np.ndarray, "N C"], num_cells: int, temperature: float
) -> tuple[Int[np.ndarray, "N K"], Float32[np.ndarray, "N K"]]:
    """The most probable cells and their probabilities among all cells, most probable first."""
    if num_cells > logits.shape[1]:
        raise ValueError(f"num_cells={num_cells} is more than the {logits.shape[1]} cells there are")
    probability = softmax(logits.astype(np.float64) / temperature)
    cells = np.argsort(-logits, axis=1, kind="stable")[:, :num_cells]
    return cells, np.take_along_axis(probability, cells, axis=1).astype(np.float32)


def refine(
    cell_probability: Float32[np.ndarray, "N K"],
    cell_latlon: Float64[np.ndarray, "N K 2"],
    found: Matches,
    parameters: Refinement,
) -> Refined:
    """Choose the cell by p_cell x softmax(-d / T) and the point by its nearest member.

    A cell with no prototype answers with its centre, and takes part with its own probability when no candidate has a
    prototype. Where the choice moves the answer further than ``max_distance_km`` from the top cell's centre, the top
    cell wins instead. Distances are divided in float64: in float32 a small temperature makes them all infinite.
    """
    n = np.arange(len(cell_probability))
    has_members = np.isfinite(found.member_distance[:, :, 0])
    points = np.where(has_members[..., None], found.member_latlon[:, :, 0], cell_latlon)
    by_member = parameters.nearness == "member"
    distance = found.member_distance[:, :, 0] if by_member else found.prototype_distance
    scores = cell_probability * softmax(-distance.astype(np.float64) / parameters.temperature)
    scores = np.where(scores.sum(axis=1, keepdims=True) > 0, scores, cell_probability)
    winner = scores.argmax(axis=1)
    moved = great_circle_km(cell_latlon[:, 0], points[n, winner]) > parameters.max_distance_km
    scores = np.where(moved[:, None], cell_probability, scores)
    winner = np.where(moved, cell_probability.argmax(axis=1), winner)
    latlon = points[n, winner]
    if parameters.blend_km > 0:
        latlon = _blend(latlon, has_members[n, winner], found, parameters)
        points[n, winner] = latlon
    held = cell_probability.sum(axis=1, keepdims=True, dtype=np.float64)
    probability = scores / scores.sum(axis=1, keepdims=True) * np.minimum(held, 1.0)
    return Refined(latlon=latlon, winner=winner, candidate_latlon=points, candidate_probability=probability)


def _blend(
    latlon: Float64[np.ndarray, "N 2"],
    known: Bool[np.ndarray, "N"],
    found: Matches,
    parameters: Refinement,
) -> Float64[np.ndarray, "N 2"]:
    """The weighted spherical mean of the members near each answer; an answer that is no member stays as it is."""
    n, k, m = found.member_distance.shape
    places = found.member_latlon.reshape(n, k * m, 2)
    distance = found.member_distance.reshape(n, k * m).astype(np.float64)
    away = great_circle_km(np.broadcast_to(latlon[:, None], places.shape), places)
    near = np.isfinite(distance) & (away <= parameters.blend_km)
    weights = softmax(np.where(near, -distance / parameters.member_temperature, -np.inf))
    return np.where((known & near.any(axis=1))[:, None], spherical_mean(places, weights), latlon)
