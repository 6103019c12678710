"""Engines by faiss: exact, inverted lists, and a graph. Shapes: N images, n vectors, D features, k neighbours."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from geo_ray.index.engine import HNSW, IVF, Engine, EngineInfo, Flat
from geo_ray.index.features import StoredFeatures
from geo_ray.index.index_folder import Metric
from geo_ray.index.nearest import UNIT_ROUNDOFF, BlockSearch, best_rows
from geo_ray.index.threads import Workers


class FlatEngine(Engine):
    """See ``Flat``. The vectors stay where they are: on disk where they are memory-mapped."""

    FILE = "vectors.npy"
    SQUARED = "squared.npy"  # their squared lengths, so that to open them isn't to read them

    def __init__(self, vectors: StoredFeatures, info: EngineInfo, num_threads: int) -> None:
        super().__init__(info, num_threads)
        if vectors.codes.shape != (info.num_vectors, info.num_features) or len(vectors.squared_norms) != len(vectors):
            raise ValueError(f"{self.FILE} holds {vectors.codes.shape}, not {info.num_vectors} x {info.num_features}")
        self._vectors = vectors
        self._exact = BlockSearch(vectors, info.metric)
        self._longest = float(np.sqrt(vectors.squared_norms.max()))
        self._workers = Workers(num_threads)

    @classmethod
    def build(cls, vectors: Float32[np.ndarray, "n D"], info: EngineInfo, num_threads: int) -> "FlatEngine":
        """See ``Engine.build``."""
        return cls(StoredFeatures(codes=vectors), info, num_threads)

    @classmethod
    def open(cls, folder: Path, info: EngineInfo, num_threads: int) -> "FlatEngine":
        """See ``Engine.open``."""
        vectors = np.load(folder / cls.FILE, mmap_mode="r", allow_pickle=False)
        squared = np.load(folder / cls.SQUARED, allow_pickle=False)
        return cls(StoredFeatures(codes=np.asarray(vectors), squared=squared), info, num_threads)

    def _search(self, features: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        pairs, rows = self._list(features, num_rows)
        distances = self._exact.distances(features, pairs, rows, self._workers)
        return best_rows(pairs, rows, distances, len(features), num_rows)

    def _list(self, features: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and rows: for each image all rows that rounding may keep from the nearest, by longer and longer lists.

        See ``BlockSearch`` for the margin; a squared distance is off by twice what a product is, and by the lengths.
        """
        images, listed, length = np.arange(len(features)), [], min(num_rows + Flat.SLACK, self.info.num_vectors)
        reach = np.sqrt(np.vecdot(features, features)) + self._longest
        margin = 2 * (features.shape[1] + 8) * UNIT_ROUNDOFF * reach**2
        while len(images):
            rows, scores = _faiss_knn(features[images], self._vectors.codes, length, self.info.metric, self.num_threads)
            within = scores <= scores[:, num_rows - 1 : num_rows] + margin[images, None]
            done = ~within[:, -1] | (length == self.info.num_vectors)
            which, rank = np.nonzero(within & done[:, None])
            listed.append((images[which], rows[which, rank]))
            images, length = images[~done], min(8 * length, self.info.num_vectors)
        return np.concatenate([part[0] for part in listed]), np.concatenate([part[1] for part in listed])

    def _save(self, folder: Path) -> None:
        np.save(folder / self.FILE, self._vectors.codes)
        np.save(folder / self.SQUARED, self._vectors.squared_norms)


class FaissEngine(Engine):
    """See ``IVF`` and ``HNSW``."""

    FILE = "engine.faiss"

    def __init__(self, index: Any, info: EngineInfo, num_threads: int) -> None:
        super().__init__(info, num_threads)
        self._index = index

    @classmethod
    def build(cls, vectors: Float32[np.ndarray, "n D"], info: EngineInfo, num_threads: int) -> "FaissEngine":
        """See ``Engine.build``."""
        import faiss

        faiss.omp_set_num_threads(num_threads)
        metric = _faiss_metric(info.metric)
        if info.kind == IVF.kind:
            index = _inverted_lists(IVF(**info.parameters), vectors, metric)
        else:
            parameters = HNSW(**info.parameters)
            index = faiss.IndexHNSWFlat(info.num_features, parameters.num_links, metric)
            index.hnsw.efConstruction = parameters.ef_construction
        index.add(vectors)
        return cls(index, info, num_threads)

    @classmethod
    def open(cls, folder: Path, info: EngineInfo, num_threads: int) -> "FaissEngine":
        """See ``Engine.open``."""
        import faiss

        return cls(faiss.read_index(str(folder / cls.FILE), faiss.IO_FLAG_MMAP_IFC), info, num_threads)

    def _search(self, features: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        faiss.omp_set_num_threads(self.num_threads)
        if self.info.kind == IVF.kind:
            self._index.nprobe = self.info.parameters["num_probes"]
        else:
            self._index.hnsw.efSearch = max(num_rows, self.info.parameters["ef_search"])
        scores, rows = self._index.search(features, num_rows)
        return rows, _distances(scores, self.info.metric)

    def _save(self, folder: Path) -> None:
        import faiss

        faiss.write_index(self._index, str(folder / self.FILE))


def _inverted_lists(parameters: IVF, vectors: Float32[np.ndarray, "n D"], metric: int) -> Any:
    """Trained lists without vectors."""
    import faiss

    wanted = parameters.num_lists or round(4 * len(vectors) ** 0.5)
    num_lists = min(wanted, len(vectors))
    index = faiss.IndexIVFFlat(faiss.IndexFlat(vectors.shape[1], metric), vectors.shape[1], num_lists, metric)
    index.cp.niter, index.cp.seed = parameters.num_iterations, parameters.seed
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, parameters.training_rows_a_list
    index.train(vectors)
    return index


def _faiss_metric(metric: Metric) -> int:
    import faiss

    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def _faiss_knn(
    features: np.ndarray, vectors: np.ndarray, num_rows: int, metric: Metric, num_threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores, the smaller the nearer: squared distances, or negative inner products."""
    import faiss

    faiss.omp_set_num_threads(num_threads)
    scores, rows = faiss.knn(features, vectors, num_rows, metric=_faiss_metric(metric))
    return rows, scores if metric == "l2" else -scores


def _distances(scores: np.ndarray, metric: Metric) -> np.ndarray:
    """The squared distances or inner products as distances."""
    return np.asarray(np.sqrt(np.maximum(scores, 0)) if metric == "l2" else 1 - scores)
