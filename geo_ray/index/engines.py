"""Search of all vectors, exactly or approximately, behind one interface: faiss' flat, IVF and HNSW, and hnswlib.

Shapes: n vectors, D features.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from geo_ray.errors import BundleError, InputError
from geo_ray.index.engine import DESCRIPTION, FORMAT, HNSW, IVF, Engine, EngineInfo, Flat, HnswLib, Parameters
from geo_ray.index.faiss_engines import FaissEngine, FlatEngine
from geo_ray.index.features import check_finite
from geo_ray.index.hnswlib_engine import HnswLibEngine
from geo_ray.index.index_folder import Metric

__all__ = ["HNSW", "IVF", "Engine", "Flat", "HnswLib", "build_engine", "open_engine"]

ENGINES: dict[str, type[Engine]] = {
    Flat.kind: FlatEngine,
    IVF.kind: FaissEngine,
    HNSW.kind: FaissEngine,
    HnswLib.kind: HnswLibEngine,
}


def build_engine(
    parameters: Parameters,
    vectors: Float32[np.ndarray, "n D"],
    metric: Metric = "l2",
    num_threads: int = 1,
    encoder_fingerprint: str = "",
) -> Engine:
    """The engine of these vectors; ``InputError`` where there are none, or where they hold NaN."""
    if len(vectors) == 0:
        raise InputError("an index of no vectors can't be built; check that images were embedded")
    check_finite(vectors)
    info = EngineInfo(
        kind=parameters.kind,
        metric=metric,
        num_vectors=len(vectors),
        num_features=vectors.shape[1],
        parameters=dataclasses.asdict(parameters),
        encoder_fingerprint=encoder_fingerprint,
    )
    return ENGINES[info.kind].build(np.ascontiguousarray(vectors), info, num_threads)


def open_engine(folder: Path, num_threads: int = 1, encoder_fingerprint: str = "") -> Engine:
    """The engine in a folder, memory-mapped where its library can.

    ``BundleError`` where a file is missing or damaged, or the vectors are another encoder's.
    """
    path = folder / DESCRIPTION
    try:
        info = EngineInfo(**json.loads(path.read_text()))
        if info.format != FORMAT or info.kind not in ENGINES:
            raise BundleError(f"{path}: {info.kind!r} of format {info.format} is not known; build it again")
        engine = ENGINES[info.kind].open(folder, info, num_threads)
    except (OSError, ValueError, TypeError, EOFError, RuntimeError) as error:
        raise BundleError(f"{folder} can't be opened ({error}); restore the folder or build it again") from error
    if encoder_fingerprint and info.encoder_fingerprint not in ("", encoder_fingerprint):
        raise BundleError(
            f"{folder} was built with encoder {info.encoder_fingerprint}, not {encoder_fingerprint}; build it again "
            "from features of this bundle"
        )
    return engine
