"""How fast an index answers, how right, and how large it is: every engine and cell-gated search, in one run.

Shapes: N queries, n members, K cells, D features.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int64

from geo_ray.benchmarks.mixture import MEMBERS_A_PROTOTYPE, Mixture, cell_counts, mixture_cells, mixture_queries
from geo_ray.index.engine import HNSW, IVF, Flat, HnswLib, Parameters
from geo_ray.index.engines import build_engine
from geo_ray.index.features import Dtype, encode_features
from geo_ray.index.index_folder import Metric, PrototypeIndex, take_cells, write_parts
from geo_ray.index.shard import Shard, open_shard

NUM_CHECKED = 256  # queries whose cells are searched by loops
GATED = "searches its candidate cells alone, the true one among them; recall_at_1 is within those"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What ``bench`` measures: engines on all members, and cell-gated search of ``num_candidates`` cells a query."""

    mixture: Mixture = field(default_factory=Mixture)
    num_queries: int = 2048
    num_neighbours: int = 10
    num_candidates: int = 5
    batch_size: int = 256
    num_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    metric: Metric = "l2"
    noise: float = 0.5
    engines: tuple[Parameters, ...] = (Flat(), IVF(num_probes=3), HNSW(ef_search=64), HnswLib())
    dtypes: tuple[Dtype, ...] = ("float32", "int8")

    def __post_init__(self) -> None:
        for name in ("num_queries", "num_neighbours", "num_candidates", "batch_size", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not self.engines or self.engines[0] != Flat():
            raise ValueError("engines must begin with Flat(), with whose answers the others' are compared")


@dataclass(frozen=True, kw_only=True)
class GatedBench:
    """What ``bench_gated`` measures: every dtype with every number of candidate cells."""

    mixture: Mixture = field(default_factory=lambda: Mixture(num_vectors=1_000_000, num_features=768, num_cells=2000))
    num_queries: int = 1024
    num_members: int = 8
    num_candidates: tuple[int, ...] = (5, 40)
    batch_size: int = 256
    num_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    metric: Metric = "l2"
    noise: float = 0.5
    dtypes: tuple[Dtype, ...] = ("int8", "float16", "float32")


def bench(options: Bench, say: Callable[[str], None] = print) -> dict[str, Any]:
    """``rows``: one an engine, and one for cell-gated search by dtype; on the same queries, batches and threads."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_parts(mixture_cells(options.mixture, "float32", options.metric), root / "members")
        index = open_shard(root / "members").index
        queries, cells = mixture_queries(
            options.mixture, index, options.num_queries, options.num_candidates, options.noise
        )
        truth = np.zeros(0, np.int64)
        for parameters in options.engines:
            row, found = _engine_row(parameters, index, queries, options, root / parameters.kind)
            truth = truth if len(truth) else found
            rows.append(row | {"recall_at_1": _share(found, truth)})
            say(_line(rows[-1]))
        nearest = np.array([_nearest_by_loop(index, *pair) for pair in zip(queries, cells[:NUM_CHECKED], strict=False)])
        for dtype in options.dtypes:
            row, found = _gated_row(dtype, index, queries, cells, options, root / f"gated-{dtype}")
            recalls = {"recall_at_1": _share(found[:NUM_CHECKED], nearest), "recall_at_1_of_all": _share(found, truth)}
            rows.append(row | recalls | {"note": GATED})
            say(_line(rows[-1]))
    return {"rows": rows, "data": _data(options), "options": dataclasses.asdict(options), "load": os.getloadavg()}


def _engine_row(
    parameters: Parameters, index: PrototypeIndex, queries: Float32[np.ndarray, "N D"], options: Bench, folder: Path
) -> tuple[dict[str, Any], Int64[np.ndarray, "N"]]:
    """A row without its recall, and each query's nearest member."""
    start = time.perf_counter()
    engine = build_engine(parameters, index.member_features.codes, options.metric, options.num_threads)
    build_s = time.perf_counter() - start
    engine.save(folder)
    rate, found = _rate(lambda part: engine.search(queries[part], options.num_neighbours)[0][:, 0], options)
    return _row(parameters.kind, rate, build_s, folder), found


def _gated_row(
    dtype: Dtype,
    index: PrototypeIndex,
    queries: Float32[np.ndarray, "N D"],
    cells: Int[np.ndarray, "N K"],
    options: Bench,
    folder: Path,
) -> tuple[dict[str, Any], Int64[np.ndarray, "N"]]:
    """A row without its recalls, and each query's nearest member in its cells."""
    start = time.perf_counter()
    write_parts((_recoded(take_cells(index, c, c + 1), dtype) for c in range(index.num_cells)), folder)
    build_s = time.perf_counter() - start
    shard = open_shard(folder, options.num_threads)

    rate, _ = _rate(lambda part: _cell_search(shard, cells[part], queries[part], options.num_neighbours), options)
    name = "cell-gated" if dtype == "float32" else f"cell-gated {dtype}"
    return _row(name, rate, build_s, folder), shard.neighbours(cells, queries, 1).ids[:, 0]


def _cell_search(
    shard: Shard, cells: Int[np.ndarray, "N K"], queries: Float32[np.ndarray, "N D"], num_members: int
) -> np.ndarray:
    """What the pipeline asks for; nothing of its answer is needed here but that it was given."""
    return shard.search(cells, queries, num_members, "cell").prototype_distance[:, 0]


def _recoded(part: PrototypeIndex, dtype: Dtype) -> PrototypeIndex:
    """The same index with its features stored otherwise."""
    return dataclasses.replace(
        part,
        prototype_features=encode_features(part.prototype_features.decode(), dtype),
        member_features=encode_features(part.member_features.decode(), dtype),
    )


def _rate(search: Callable[[slice], np.ndarray], options: Bench | GatedBench) -> tuple[float, np.ndarray]:
    """Queries a second, after a batch to warm up, and the answers."""
    parts = [slice(at, at + options.batch_size) for at in range(0, options.num_queries, options.batch_size)]
    search(parts[0])
    start = time.perf_counter()
    found = [search(part) for part in parts]
    return options.num_queries / (time.perf_counter() - start), np.concatenate(found)


def _nearest_by_loop(index: PrototypeIndex, query: Float32[np.ndarray, "D"], cells: Int[np.ndarray, "K"]) -> int:
    """The nearest member of these cells, cell by cell in float64."""
    best = (np.inf, -1)
    for cell in cells:
        first, last = index.cell_members[cell : cell + 2]
        members = index.member_features.decode(slice(first, last)).astype(np.float64)
        if index.metric == "l2":
            distances = np.linalg.norm(members - query, axis=1)
        else:
            distances = 1 - members @ query.astype(np.float64)
        if len(distances):
            best = min(best, (float(distances.min()), int(first + distances.argmin())))
    return best[1]


def _share(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found == truth).mean())


def _row(name: str, rate: float, build_s: float, folder: Path) -> dict[str, Any]:
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"name": name, "queries_per_second": rate, "build_s": build_s, "size_bytes": size}


def _line(row: dict[str, Any]) -> str:
    """A row for a person."""
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k != "note")


def _data(options: Bench | GatedBench) -> str:
    """What was searched, in words."""
    m = options.mixture
    return (
        f"{m.num_vectors} x {m.num_features} random features, not of images: a Gaussian mixture in the proportions of "
        f"earth-tiny's cells ({len(cell_counts(m))}), {MEMBERS_A_PROTOTYPE} members to a prototype, of length one; "
        f"a query is a member moved by {options.noise} of the members' standard deviation"
    )


def bench_gated(options: GatedBench, say: Callable[[str], None] = print) -> dict[str, Any]:
    """``rows``: milliseconds an image of cell-gated search, seconds to open, bytes stored and resident, exactness."""
    rows: list[dict[str, Any]] = []
    for dtype in options.dtypes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_parts(mixture_cells(options.mixture, dtype, options.metric), folder)
            for num_candidates in options.num_candidates:
                rows.append({"name": f"{dtype} K={num_candidates}"} | _gated_figures(folder, num_candidates, options))
                say(_line(rows[-1]))
    return {"rows": rows, "data": _data(options), "options": dataclasses.asdict(options), "load": os.getloadavg()}


def _gated_figures(folder: Path, num_candidates: int, options: GatedBench) -> dict[str, Any]:
    before, start = _resident_bytes(), time.perf_counter()
    shard = open_shard(folder, options.num_threads)
    open_s = time.perf_counter() - start
    queries, cells = mixture_queries(options.mixture, shard.index, options.num_queries, num_candidates, options.noise)
    rate, _ = _rate(lambda part: _cell_search(shard, cells[part], queries[part], options.num_members), options)
    checked = slice(0, NUM_CHECKED // num_candidates)
    truth = np.array([_nearest_by_loop(shard.index, *p) for p in zip(queries[checked], cells[checked], strict=True)])
    return {
        "ms_an_image": 1000 / rate,
        "exact": _share(shard.neighbours(cells[checked], queries[checked], 1).ids[:, 0], truth),
        "open_s": open_s,
        "stored_bytes": shard.index.member_features.size_bytes + shard.index.prototype_features.size_bytes,
        "resident_bytes": _resident_bytes() - before,
    }


def _resident_bytes() -> int:
    """Of this process: mapped files count as far as they were read. 0 where the system doesn't say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0
