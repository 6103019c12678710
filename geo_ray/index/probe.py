"""Hierarchical zero-shot probing: an image compared with the captions of a forest of labels, from the top down.

Greedy, in two steps: StreetCLIP (arXiv 2302.00275), section 3. Down a tree until a child is no more similar than its
parent: OSV-5M, scripts/retrieval/street-clip-zero-shot.py.

Shapes: N images, L labels, C labels and the root of all, D features, K candidates, S pairs of an image and a label
whose children compete, P those children.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from geo_ray.index.refine import Refined

CHUNK = 256  # images that are compared with all labels at once
GRID = 2.0**24  # cosines are rounded to multiples of its inverse, which float32 holds exactly
ROOT = -1  # the parent of a label that has none


@dataclass(frozen=True, kw_only=True)
class Probing:
    """How labels are searched; ``logit_scale`` multiplies cosines before the softmax, as in CLIP.

    "greedy" answers with the best child of the best label of the first level, as in the paper. "beam" takes the
    children of the ``beam`` best together, by product of probabilities. "tree" goes down to the best child as long as
    that is strictly more similar than its parent, at any depth.
    """

    method: Literal["greedy", "beam", "tree"] = "greedy"
    beam: int = 5
    logit_scale: float = 100.0
    num_candidates: int = 30

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "beam", "tree"):
            raise ValueError(f"probing: method={self.method!r} must be 'greedy', 'beam' or 'tree'")
        for name in ("beam", "num_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"probing: {name}={getattr(self, name)} must be at least 1")
        if not 0 < self.logit_scale < np.inf:
            raise ValueError(f"probing: logit_scale={self.logit_scale} must be positive and finite")


@dataclass(frozen=True, kw_only=True)
class Probed(Refined):
    """The answer for each image: ``cells`` are label rows, the most probable first, of equals the lowest row.

    The first candidate is the answer, so ``winner`` is 0. Where there are fewer than K candidates, the first is
    repeated with probability 0. A probability is the product down to the candidate of those among the children of one
    label. ``top_latlon`` is the place of the most probable label of the first level.
    """

    cells: Int64[np.ndarray, "N K"]
    top_latlon: Float64[np.ndarray, "N 2"]


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Labels that compete for an image, its position and their log-probability; a run of equal ``images`` an image."""

    images: Int64[np.ndarray, "P"]
    rows: Int64[np.ndarray, "P"]
    log_p: Float64[np.ndarray, "P"]

    def best(self, count: int) -> tuple[Int64[np.ndarray, "N K"], Float64[np.ndarray, "N K"]]:
        """The most probable labels of each image and their log-probabilities: the first and -inf where none is left."""
        order = np.lexsort((self.rows, -self.log_p, self.images))
        images, starts = np.unique(self.images, return_index=True)
        number = np.cumsum(np.diff(self.images, prepend=self.images[:1]) != 0)
        place = np.arange(len(order)) - starts[number]
        rows = np.repeat(self.rows[order[starts]][:, None], count, axis=1)
        log_p = np.full((len(images), count), -np.inf)
        held = place < count
        rows[number[held], place[held]] = self.rows[order[held]]
        log_p[number[held], place[held]] = self.log_p[order[held]]
        return rows, log_p


class Probe:
    """Labels by row, parents before children, with their places in degrees and the features of their captions."""

    def __init__(
        self,
        parents: Int64[np.ndarray, "L"],
        latlon: Float64[np.ndarray, "L 2"],
        label_features: Float32[np.ndarray, "L D"],
        parameters: Probing,
        device: str | None = None,
    ) -> None:
        if not len(parents) or not len(parents) == len(latlon) == len(label_features):
            raise ValueError(f"probe: {len(parents)} parents, {len(latlon)} places, {len(label_features)} features")
        if ((parents < ROOT) | (parents >= np.arange(len(parents)))).any():
            raise ValueError(f"probe: parents must be earlier rows, or {ROOT} for none")
        if not np.isfinite(label_features).all():
            raise ValueError("probe: features of labels are not finite")
        self.parameters = parameters
        self._latlon = latlon
        self._weights = np.ascontiguousarray(_unit(label_features).T)
        self._products = _products(self._weights, device)
        self._roots = np.flatnonzero(parents == ROOT)
        self._top = len(parents)  # stands for the parent of all roots
        self._starts, self._counts, self._members = _members(parents)

    def __call__(self, features: Float32[np.ndarray, "N D"]) -> Probed:
        """The answer for each image; ``ValueError`` where features are not finite or not of the labels' number."""
        if features.shape[1] != len(self._weights):
            raise ValueError(f"probe: {features.shape[1]} features an image, {len(self._weights)} a label")
        if not np.isfinite(features).all():
            raise ValueError("probe: features of images are not finite")
        parts = [self._probe(features[at : at + CHUNK]) for at in range(0, max(len(features), 1), CHUNK)]
        cells, log_p, top = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Probed(
            latlon=self._latlon[cells[:, 0]],
            winner=np.zeros(len(cells), np.int64),
            candidate_latlon=self._latlon[cells],
            candidate_probability=np.exp(log_p),
            cells=cells,
            top_latlon=self._latlon[top],
        )

    def _probe(
        self, features: Float32[np.ndarray, "N D"]
    ) -> tuple[Int64[np.ndarray, "N K"], Float64[np.ndarray, "N K"], Int64[np.ndarray, "N"]]:
        """Candidates, their log-probabilities, and the best label of the first level."""
        # Summed in float64 and rounded: equal captions are equal, and no last digit tells the size of the batch.
        cosines = np.full((len(features), self._top + 1), -np.inf, np.float32)
        cosines[:, : self._top] = np.rint(self._products(_unit(features)) * GRID) / GRID
        top = self._roots[cosines[:, self._roots].argmax(axis=1)]
        if self.parameters.method == "tree":
            pairs = self._descend(cosines)
        else:
            pairs = self._widen(cosines, self.parameters.beam if self.parameters.method == "beam" else 1)
        return (*pairs.best(self.parameters.num_candidates), top)

    def _widen(self, cosines: Float32[np.ndarray, "N C"], beam: int) -> _Pairs:
        """The children of the best labels of the first level."""
        n = np.arange(len(cosines))
        rows, log_p = self._below(cosines, n, np.full(len(n), self._top), np.zeros(len(n))).best(beam)
        image, place = np.nonzero(np.isfinite(log_p))
        return self._below(cosines, image, rows[image, place], log_p[image, place])

    def _descend(self, cosines: Float32[np.ndarray, "N C"]) -> _Pairs:
        """The answer at the end of the way down from the root, and its siblings."""
        n = len(cosines)
        parent, answer = np.full(n, self._top), np.full(n, self._top)
        above, log_p = np.zeros(n), np.zeros(n)  # of the parent and of the answer
        going = np.arange(n)
        while len(going):
            rows, below = self._below(cosines, going, answer[going], log_p[going]).best(1)
            better = cosines[going, rows[:, 0]] > cosines[going, answer[going]]
            going = going[better]
            parent[going], above[going] = answer[going], log_p[going]
            answer[going], log_p[going] = rows[better, 0], below[better, 0]
        return self._below(cosines, np.arange(n), parent, above)

    def _below(
        self,
        cosines: Float32[np.ndarray, "N C"],
        images: Int64[np.ndarray, "S"],
        labels: Int64[np.ndarray, "S"],
        log_p: Float64[np.ndarray, "S"],
    ) -> _Pairs:
        """For pairs of an image and a label with its log-probability: the label's children, or itself without any."""
        counts = self._counts[labels]
        starts = np.cumsum(counts) - counts
        rows = self._members[np.repeat(self._starts[labels] - starts, counts) + np.arange(counts.sum())]
        image = np.repeat(images, counts)
        logits = self.parameters.logit_scale * cosines[image, rows].astype(np.float64)
        logits -= np.repeat(np.maximum.reduceat(logits, starts), counts)
        total = np.log(np.add.reduceat(np.exp(logits), starts))
        return _Pairs(images=image, rows=rows, log_p=logits + np.repeat(log_p - total, counts))


def _products(
    weights: Float64[np.ndarray, "D L"], device: str | None
) -> Callable[[Float64[np.ndarray, "N D"]], Float64[np.ndarray, "N L"]]:
    """The products with all labels: by numpy, or on a torch device."""
    if device is None:
        return lambda features: features @ weights
    from geo_ray.index.on_device import DeviceProducts  # which needs torch

    products = DeviceProducts(weights, device)
    return lambda features: products(features).cpu().numpy()


def _unit(features: Float32[np.ndarray, "N D"]) -> Float64[np.ndarray, "N D"]:
    """Features of length one; zeros stay zeros."""
    exact = features.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True).clip(min=np.finfo(np.float64).tiny))


def _members(
    parents: Int64[np.ndarray, "L"],
) -> tuple[Int64[np.ndarray, "L+1"], Int64[np.ndarray, "L+1"], Int64[np.ndarray, "M"]]:
    """Of each label, and of the root of all behind them: where its children start, how many, and all in turn.

    A label without children has itself, with which the way down ends: no label is more similar than itself.
    """
    owners = np.where(parents == ROOT, len(parents), parents)
    leaves = np.setdiff1d(np.arange(len(parents)), owners)
    owners, rows = np.append(owners, leaves), np.append(np.arange(len(parents)), leaves)
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(parents) + 1)
    return np.cumsum(counts) - counts, counts, rows[order]
