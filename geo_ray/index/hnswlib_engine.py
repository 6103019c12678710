"""The engine by hnswlib. Shapes: n vectors, D features."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from geo_ray.index.engine import Engine, EngineInfo, HnswLib


class HnswLibEngine(Engine):
    """See ``HnswLib``."""

    FILE = "engine.hnswlib"

    def __init__(self, index: Any, info: EngineInfo, num_threads: int) -> None:
        super().__init__(info, num_threads)
        self._index = index

    @classmethod
    def build(cls, vectors: Float32[np.ndarray, "n D"], info: EngineInfo, num_threads: int) -> "HnswLibEngine":
        """See ``Engine.build``."""
        import hnswlib

        parameters = HnswLib(**info.parameters)
        index = hnswlib.Index(space=info.metric, dim=info.num_features)
        index.init_index(info.num_vectors, parameters.num_links, parameters.ef_construction, parameters.seed)
        index.add_items(vectors, num_threads=num_threads)
        return cls(index, info, num_threads)

    @classmethod
    def open(cls, folder: Path, info: EngineInfo, num_threads: int) -> "HnswLibEngine":
        """See ``Engine.open``."""
        import hnswlib

        index = hnswlib.Index(space=info.metric, dim=info.num_features)
        index.load_index(str(folder / cls.FILE))
        return cls(index, info, num_threads)

    def _search(self, features: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        self._index.set_ef(max(num_rows, self.info.parameters["ef_search"]))
        rows, scores = self._index.knn_query(features, num_rows, num_threads=self.num_threads)
        return rows.astype(np.int64), np.sqrt(scores) if self.info.metric == "l2" else scores

    def _save(self, folder: Path) -> None:
        self._index.save_index(str(folder / self.FILE))
