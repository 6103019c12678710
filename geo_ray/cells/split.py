"""Splitting large cells along their points' clusters (PIGEON, section 3.1, algorithm 1; reference: cell.py:336-418)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int, Shaped

from geo_ray.cells.clusters import optics_clusters
from geo_ray.cells.partition import CellSizes
from geo_ray.cells.voronoi import faces_of, shared_borders, without_strays
from geo_ray.geo.sphere import pairwise_km, spherical_mean


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How large cells are split.

    ``schedule`` holds OPTICS's (min_samples, xi), tried in turn until a cell is small enough. ``one_cluster`` says when
    a single cluster is cut out of a cell: where the rest of it is large enough, as in the paper, or only where that is
    not too large either, as in the reference code, which leaves more cells too large.
    """

    schedule: tuple[tuple[int, float], ...] = ((8, 0.05), (10, 0.025), (15, 0.015))
    one_cluster: Literal["paper", "code"] = "paper"

    def __post_init__(self) -> None:
        for min_samples, xi in self.schedule:
            if min_samples < 2 or not 0 < xi < 1:
                raise ValueError(f"schedule: ({min_samples}, {xi}) must be at least 2, and between 0 and 1")
        if self.one_cluster not in ("paper", "code"):
            raise ValueError(f"one_cluster={self.one_cluster!r} must be 'paper' or 'code'")


@dataclass(frozen=True)
class Piece:
    """A part of a cell, in degrees of a frame, longitude first, and the rows of the points in it."""

    shape: shapely.Geometry
    rows: Int[np.ndarray, "m"]


def split(
    shape: shapely.Geometry, latlon: Float64[np.ndarray, "n 2"], sizes: CellSizes, splitting: Splitting
) -> list[Piece]:
    """The pieces of a cell, each with at least ``min_size`` points, and above ``max_size`` what no parameters split.

    ``latlon`` are the cell's points, in the frame of ``shape``.
    """
    order = np.lexsort(latlon.T)  # so that the rows' order changes nothing
    pieces = [Piece(shape, order)]
    for min_samples, xi in splitting.schedule:
        pieces = [
            part
            for piece in pieces
            for part in _split_while(piece, latlon, sizes, min_samples, xi, splitting.one_cluster)
        ]
    return pieces


def _split_while(
    piece: Piece, latlon: Float64[np.ndarray, "n 2"], sizes: CellSizes, min_samples: int, xi: float, one_cluster: str
) -> Iterator[Piece]:
    """The pieces that these OPTICS parameters lead to."""
    todo = [piece]
    while todo:
        piece = todo.pop()
        parts: list[Piece] = []
        if len(piece.rows) > sizes.max_size:
            labels = optics_clusters(latlon[piece.rows], min_samples, xi)
            points, groups = seeds(latlon[piece.rows], labels, sizes, one_cluster)
            parts = cut(piece, latlon, points, groups, sizes.min_size) if len(points) else []
        if len(parts) > 1:
            todo += reversed(parts)
        else:
            yield piece


def seeds(
    latlon: Float64[np.ndarray, "n 2"], clusters: Int[np.ndarray, "n"], sizes: CellSizes, one_cluster: str
) -> tuple[Float64[np.ndarray, "s 2"], Int[np.ndarray, "s"]]:
    """The points whose Voronoi regions make the parts of a cell, and the part of each; none where it stays whole.

    One cluster that is large enough: all points, inside it or not. Two: all points, each with the nearer cluster's
    centre. More: the clusters' centres.
    """
    size = np.bincount(clusters[clusters >= 0])
    real = np.flatnonzero(size >= sizes.min_size)
    rest = len(latlon) - size[real].sum()
    whole = (np.zeros((0, 2)), np.zeros(0, np.int64))
    if len(real) == 0:
        return whole
    if len(real) == 1:
        if rest < sizes.min_size or (one_cluster == "code" and rest > sizes.max_size):
            return whole
        return _distinct(latlon, (clusters == real[0]).astype(np.int64))
    centers = np.stack([spherical_mean(latlon[clusters == cluster]) for cluster in real])
    if len(real) > 2:
        return _distinct(centers, np.arange(len(real)))
    side = np.argmin(pairwise_km(latlon, centers), axis=1)
    for number, cluster in enumerate(real):
        side[clusters == cluster] = number
    return _distinct(latlon, side)


def _distinct(
    latlon: Float64[np.ndarray, "n 2"], groups: Int[np.ndarray, "n"]
) -> tuple[Float64[np.ndarray, "s 2"], Int[np.ndarray, "s"]]:
    """Each place once, in the first of its groups."""
    places, place = np.unique(latlon, axis=0, return_inverse=True)
    group = np.full(len(places), groups.max())
    np.minimum.at(group, place, groups)
    return places, group


def cut(
    piece: Piece,
    latlon: Float64[np.ndarray, "n 2"],
    points: Float64[np.ndarray, "s 2"],
    groups: Int[np.ndarray, "s"],
    min_size: int,
) -> list[Piece]:
    """The parts of a piece about groups of points: connected where the piece is, none with fewer than ``min_size``."""
    faces, labels = faces_of(piece.shape, points, groups)
    labels = without_strays(faces, labels)
    face = shapely.STRtree(faces).nearest(shapely.points(latlon[piece.rows][:, ::-1]))
    labels = _joined(faces, labels, np.bincount(face, minlength=len(faces)), min_size)
    names = np.unique(labels)
    return [Piece(shapely.union_all(faces[labels == name]), piece.rows[labels[face] == name]) for name in names]


def _joined(
    faces: Shaped[np.ndarray, "f"], labels: Int[np.ndarray, "f"], counts: Int[np.ndarray, "f"], min_size: int
) -> Int[np.ndarray, "f"]:
    """Groups of the faces once those with too few points, the smallest first, joined the neighbour they most border."""
    labels = labels.copy()
    a, b, length = shared_borders(faces)
    while True:
        names, number = np.unique(labels, return_inverse=True)
        size = np.bincount(number, counts)
        if size.min() >= min_size or len(names) == 1:
            return labels
        small = int(np.argmin(size))
        border = np.bincount(number[b], length * (number[a] == small), len(names))
        border += np.bincount(number[a], length * (number[b] == small), len(names))
        border[small] = -1.0
        labels[number == small] = names[_best(border, size, np.arange(len(names)) != small)]


def _best(border: Float64[np.ndarray, "k"], size: Float64[np.ndarray, "k"], allowed: Bool[np.ndarray, "k"]) -> int:
    """The longest border, or where there is none, the smallest group."""
    if border.max() > 0:
        return int(np.argmax(border))
    return int(np.argmin(np.where(allowed, size, np.inf)))
