"""Refinement of a cell guess by its prototypes and their members (PIGEON, section 3.4; reference: proto_refiner.py).

Shapes: N images, K candidate cells, M members a cell.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from geo_ray.geo.sphere import great_circle_km, spherical_mean

_WORDS = {
    "method": ("prototypes", "neighbours"),
    "members": ("prototype", "cell"),
    "nearness": ("prototype", "member"),
    "measure": ("cosine", "csls"),
}


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Parameters of the refinement; the defaults are PIGEON's. The temperatures belong to the scale of the features.

    ``members`` says which members are compared with the image: those of the cell's nearest prototype, as in the paper,
    or all of the cell's. With ``blend_km`` above 0, the answer is not the nearest member alone: members of all
    candidate cells within that distance of it are averaged on the sphere, weighted by
    softmax(-distance / member_temperature), which can answer with a place between the known ones. ``nearness`` says
    whose distance d weighs a cell: its nearest prototype's, as in the paper, or its nearest member's, which is sharper
    where clusters are wide.

    Beyond the paper: with ``average_km`` above 0, the answer is the mean of the candidates' points within that distance
    of it, weighted by their probability. ``method`` "neighbours" leaves prototypes aside: the answer is the nearest
    member, by cosine or CSLS (``measure``), of the first cells that hold ``gate`` of the probability.
    """

    method: Literal["prototypes", "neighbours"] = "prototypes"

    num_cells: int = 5
    temperature: float = 1.6
    max_distance_km: float = 1000.0
    members: Literal["prototype", "cell"] = "prototype"
    nearness: Literal["prototype", "member"] = "prototype"
    num_members: int = 1
    blend_km: float = 0.0
    member_temperature: float = 1.0
    logit_temperature: float = 1.0  # the head's logits are divided by it: calibrated cell probabilities
    average_km: float = 0.0
    gate: float = 1.0
    measure: Literal["cosine", "csls"] = "cosine"

    def __post_init__(self) -> None:
        for name in ("num_cells", "num_members", "temperature", "member_temperature", "logit_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"refinement: {name}={getattr(self, name)} must be positive")
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ValueError(f"refinement: {name}={getattr(self, name)!r} must be one of {words}")
        for name in ("blend_km", "max_distance_km", "average_km"):
            if getattr(self, name) < 0:
                raise ValueError(f"refinement: {name}={getattr(self, name)} must not be below 0")
        if not 0 < self.gate <= 1:
            raise ValueError(f"refinement: gate={self.gate} must be above 0 and at most 1")


# The papers' parameters (PIGEON, appendix B.4). Their temperatures belong to features of 1,024 numbers that were not
# brought to length one; with other features ``geo-ray bundle calibrate`` finds what fits.
PRESETS = {
    "pigeon": Refinement(),
    "pigeotto": Refinement(num_cells=40, temperature=0.6, max_distance_km=20100.0),
}


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
        _, k, m = found.member_distance.shape
        places, distances = found.member_latlon.reshape(-1, k * m, 2), found.member_distance.reshape(-1, k * m)
        latlon = _blend(latlon, has_members[n, winner], places, distances, parameters)
    held = cell_probability.sum(axis=1, keepdims=True, dtype=np.float64)
    probability = scores / scores.sum(axis=1, keepdims=True) * np.minimum(held, 1.0)
    return _answer(latlon, winner, points, probability, parameters)


def nearest_distance(distance: Float[np.ndarray, "N *found"]) -> Float64[np.ndarray, "N"]:
    """The feature distance of the nearest of all members that were found for an image; inf where there was none."""
    return np.asarray(distance.reshape(len(distance), -1).min(axis=1), np.float64)


def feature_distance(features: Float[np.ndarray, "N D"], others: Float[np.ndarray, "N D"]) -> Float64[np.ndarray, "N"]:
    """The distance of each pair of vectors, both brought to length one, a row at a time: it depends on no neighbour."""
    a, b = (each.astype(np.float64) for each in (features, others))
    a, b = (each / np.maximum(np.sqrt((each * each).sum(axis=1, keepdims=True)), 1e-300) for each in (a, b))
    return np.asarray(np.sqrt(((a - b) ** 2).sum(axis=1)))


def gated(
    cells: Int[np.ndarray, "N K"], cell_probability: Float32[np.ndarray, "N K"], gate: float
) -> Int[np.ndarray, "N K"]:
    """The first cells of each image that hold ``gate`` of the probability, -1 in place of the others."""
    before = np.cumsum(cell_probability, axis=1, dtype=np.float64) - cell_probability
    return np.where(before < gate, cells, -1)


def refine_by_neighbours(
    cell_probability: Float32[np.ndarray, "N K"],
    cell_latlon: Float64[np.ndarray, "N K 2"],
    distance: Float64[np.ndarray, "N M"],
    latlon: Float64[np.ndarray, "N M 2"],
    parameters: Refinement,
) -> Refined:
    """The place of each image's nearest neighbour among the members of its cells, or the top cell's centre without one.

    Neighbours are nearest first, at infinity where there are fewer. The chosen candidate is the cell whose centre is
    nearest to the answer; the others answer with their centres.
    """
    known = np.isfinite(distance[:, 0])
    point = np.where(known[:, None], latlon[:, 0], cell_latlon[:, 0])
    if parameters.blend_km > 0:
        point = _blend(point, known, latlon, distance, parameters)
    away = great_circle_km(np.broadcast_to(point[:, None], cell_latlon.shape), cell_latlon)
    probability = cell_probability.astype(np.float64)
    return _answer(point, away.argmin(axis=1), cell_latlon.copy(), probability, parameters)


def _answer(
    latlon: Float64[np.ndarray, "N 2"],
    winner: Int[np.ndarray, "N"],
    points: Float64[np.ndarray, "N K 2"],
    probability: Float64[np.ndarray, "N K"],
    parameters: Refinement,
) -> Refined:
    """The answer, averaged with the candidates near it where that is asked for."""
    n = np.arange(len(points))
    points[n, winner] = latlon
    if parameters.average_km > 0:
        away = great_circle_km(np.broadcast_to(latlon[:, None], points.shape), points)
        weights = np.where(away <= parameters.average_km, probability, 0.0)
        weights[n, winner] = np.maximum(weights[n, winner], np.finfo(np.float64).tiny)
        points[n, winner] = latlon = spherical_mean(points, weights)
    return Refined(latlon=latlon, winner=winner, candidate_latlon=points, candidate_probability=probability)


def _blend(
    latlon: Float64[np.ndarray, "N 2"],
    known: Bool[np.ndarray, "N"],
    places: Float64[np.ndarray, "N M 2"],
    distances: Float[np.ndarray, "N M"],
    parameters: Refinement,
) -> Float64[np.ndarray, "N 2"]:
    """The weighted spherical mean of the members near each answer; an answer that is no member stays as it is."""
    distance = distances.astype(np.float64)
    away = great_circle_km(np.broadcast_to(latlon[:, None], places.shape), places)
    near = np.isfinite(distance) & (away <= parameters.blend_km)
    weights = softmax(np.where(near, -distance / parameters.member_temperature, -np.inf))
    return np.where((known & near.any(axis=1))[:, None], spherical_mean(places, weights), latlon)
