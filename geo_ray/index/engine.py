"""What engines are: searches of all vectors, exact or approximate, with their parameters.

Distances are Euclidean (``l2``), or one minus the inner product (``ip``). Shapes: N images, n vectors, D features,
k neighbours.
"""

import dataclasses
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int64

from geo_ray.index.features import check_finite
from geo_ray.index.index_folder import Metric

FORMAT = 1
DESCRIPTION = "engine.json"


@dataclass(frozen=True, kw_only=True)
class Flat:
    """Exact search by faiss' products of all with all; its shortlist is decided in float64, of equals the first row."""

    kind: ClassVar[str] = "flat"
    SLACK: ClassVar[int] = 8  # so many more than asked for are listed at first


@dataclass(frozen=True, kw_only=True)
class IVF:
    """faiss' inverted lists: k-means cells, of which those nearest to an image are searched. 0 lists are 4 sqrt(n)."""

    kind: ClassVar[str] = "ivf"
    num_lists: int = 0
    num_probes: int = 16
    training_rows_a_list: int = 40
    num_iterations: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        _check_positive(self, "num_probes", "training_rows_a_list", "num_iterations")
        if self.num_lists < 0:
            raise ValueError(f"{self.kind}: num_lists={self.num_lists} is below 0")


@dataclass(frozen=True, kw_only=True)
class HNSW:
    """faiss' graph of neighbours: Malkov and Yashunin (2018), IEEE TPAMI 42."""

    kind: ClassVar[str] = "hnsw"
    num_links: int = 32
    ef_construction: int = 200
    ef_search: int = 96

    def __post_init__(self) -> None:
        _check_positive(self, "num_links", "ef_construction", "ef_search")


@dataclass(frozen=True, kw_only=True)
class HnswLib(HNSW):
    """The same graph, by its authors' library."""

    kind: ClassVar[str] = "hnswlib"
    ef_search: int = 128
    seed: int = 0


Parameters = Flat | IVF | HNSW | HnswLib


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What ``engine.json`` says."""

    kind: str
    metric: Metric
    num_vectors: int
    num_features: int
    parameters: dict[str, Any]
    encoder_fingerprint: str = ""
    format: int = FORMAT


class Engine(ABC):
    """A search of all vectors; what it found are their row numbers."""

    def __init__(self, info: EngineInfo, num_threads: int) -> None:
        self.info = info
        self.num_threads = num_threads

    def search(
        self, features: Float32[np.ndarray, "N D"], num_rows: int
    ) -> tuple[Int64[np.ndarray, "N k"], Float[np.ndarray, "N k"]]:
        """The nearest rows and their distances, nearest first; -1 and inf where there are no more."""
        if features.shape[1] != self.info.num_features:
            raise ValueError(f"images have {features.shape[1]} features, the index has {self.info.num_features}")
        check_finite(features, "images' feature vectors")
        shape = (len(features), num_rows)
        rows, distances = np.full(shape, -1, np.int64), np.full(shape, np.inf)
        num_found = min(num_rows, self.info.num_vectors)
        if len(features) and num_found:
            rows[:, :num_found], distances[:, :num_found] = self._search(np.ascontiguousarray(features), num_found)
            distances[rows < 0] = np.inf
        return rows, distances

    def save(self, folder: Path) -> None:
        """Write what ``open_engine`` opens; ``engine.json`` last."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        self._save(folder)
        (folder / DESCRIPTION).write_text(json.dumps(dataclasses.asdict(self.info), indent=1) + "\n")

    @classmethod
    @abstractmethod
    def build(cls, vectors: Float32[np.ndarray, "n D"], info: EngineInfo, num_threads: int) -> "Engine":
        """The engine of these vectors."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, info: EngineInfo, num_threads: int) -> "Engine":
        """The engine in a folder; ``RuntimeError``, ``OSError`` or ``ValueError`` where its file is damaged."""

    @abstractmethod
    def _search(self, features: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """At most as many rows as there are vectors, and their distances."""

    @abstractmethod
    def _save(self, folder: Path) -> None: ...


def _check_positive(parameters: Any, *names: str) -> None:
    for name in names:
        if getattr(parameters, name) < 1:
            raise ValueError(f"{parameters.kind}: {name}={getattr(parameters, name)} must be at least 1")
