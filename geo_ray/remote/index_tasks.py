"""Building a prototype index on Ray: features are sorted into groups of cells by tasks, then a task builds each group.

What a task takes and gives passes through Ray's object store, which spills to disk, so that no process holds more than
one row group of a file or one group of cells. The driver has ids and places, some hundred bytes an image.
"""

import dataclasses
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import ray
from jaxtyping import Int, Int64

from geo_ray.cells.labels import FILINGS, file_points
from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition
from geo_ray.errors import InputError
from geo_ray.index.engine import IVF, Flat
from geo_ray.index.features import Dtype
from geo_ray.index.hubness import hubness
from geo_ray.index.index_folder import IndexInfo, Metric, PrototypeIndex, concat, read_index, write_hubness, write_parts
from geo_ray.index.prototypes import CLUSTERINGS, Clustering, build_cell
from geo_ray.index.split import split_index
from geo_ray.remote.build_tasks import Progress, TaskDone, answer_of, bar_of_tasks, num_under_way
from geo_ray.remote.feature_files import Members, RowGroup, encoder_of, read_features, read_members
from geo_ray.remote.new_folder import new_folder
from geo_ray.remote.shard_files import add_digests

GROUP_BYTES = 128 * 2**20  # of features of a group of cells; a task takes about four times that
EXACT_HUBNESS = 100_000  # members whose nearest others are found by exact search; of more, by inverted lists
GROUPS_A_CPU = 8  # at least, so that no CPU waits long for the last group
CPUS_A_TASK = 1.0

Job = tuple[str, Callable[[], list[Any]]]  # a title, and what submits its task: references to the outputs
Piece = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # features, cells, ids and points of some images


@dataclass(frozen=True, kw_only=True)
class IndexBuild:
    """What to build an index from, how, and where it goes.

    ``features`` are files or folders as ``geo-ray embed`` writes; ``places`` is a table of image ids and points, needed
    where the features' files have no latitude and longitude. By ``filed_by`` images are filed to the cell whose center
    is nearest, which is right for a head that ranks cells by their centers, or whose polygon covers them; the index
    records it. ``num_shards`` of None is one folder that isn't split, for search in process. Without
    ``encoder_fingerprint`` that of the features' manifest is noted. With ``hubness`` the index serves CSLS too: one
    process reads all members for it. ``output`` is a new folder, or a URI.
    """

    features: tuple[str, ...]
    cells: Path
    output: str
    places: str | None = None
    clustering: Clustering = CLUSTERINGS["pigeon"]
    dtype: Dtype = "int8"
    metric: Metric = "l2"
    num_shards: int | None = None
    filed_by: str = "center"
    encoder_fingerprint: str = ""
    hubness: bool = False

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError("an index needs features; name their files or folders")
        if self.num_shards is not None and self.num_shards < 1:
            raise ValueError(f"num_shards={self.num_shards} must be at least 1")
        if self.filed_by not in FILINGS:
            raise ValueError(f"filed_by={self.filed_by!r} must be one of {', '.join(FILINGS)}")


def build_index(build: IndexBuild, progress: Progress = lambda task: None) -> IndexInfo:
    """Write the index, by tasks of a connected Ray; what it says of itself. However many workers, it is the same.

    A member's id is its row in the table of places. ``progress`` is told of every task that is done. Raises
    ``InputError`` that counts images that have no place, are there twice or whose features aren't finite,
    ``OutputError`` where the output isn't free, and ``BuildError`` that names the file or cells whose task failed.
    """
    with new_folder(build.output) as folder:
        members = read_members(build.features, build.places)
        partition = read_partition(build.cells)
        fingerprint = build.encoder_fingerprint or encoder_of(build.features)
        parts = build_parts(members, partition, build, fingerprint, progress)
        if build.num_shards is None:
            return _write(parts, folder, build.hubness)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as whole:
            info = _write(parts, Path(whole), build.hubness)
            split_index(Path(whole), build.num_shards, folder)
        add_digests(folder)
        return info


def _write(parts: Iterator[PrototypeIndex], folder: Path, with_hubness: bool) -> IndexInfo:
    info = write_parts(parts, folder)
    if not with_hubness:
        return info
    index = read_index(folder)
    engine = Flat() if info.num_members <= EXACT_HUBNESS else IVF()
    found = hubness(index.member_features, parameters=engine, num_threads=os.cpu_count() or 1)
    return write_hubness(folder, found)


def build_with_progress(build: IndexBuild) -> IndexInfo:
    """What ``build_index`` answers, with a bar of its tasks on a terminal."""
    with bar_of_tasks("index") as progress:
        return build_index(build, progress)


def build_parts(
    members: Members, partition: Partition, build: IndexBuild, encoder_fingerprint: str, progress: Progress
) -> Iterator[PrototypeIndex]:
    """The index of all cells in order, a group of them at a time."""
    cells = file_members(members, partition, build.filed_by)
    counts = np.bincount(cells[members.used], minlength=len(partition))
    edges = group_edges(counts * members.num_features * 4)
    pieces = _scatter_all(members, cells, edges, progress)
    settings = {
        "dtype": build.dtype, "metric": build.metric, "encoder_fingerprint": encoder_fingerprint,
        "clustering": build.clustering,
    }  # fmt: skip
    task = ray.remote(_timed)
    jobs: list[Job] = []
    for number, (first, last) in enumerate(pairwise(edges.tolist())):
        title = f"cells {first} to {last - 1} ({counts[first:last].sum()} images)"
        build_cells = partial(_build_group, first=first, last=last, num_features=members.num_features, **settings)
        jobs.append((title, partial(_submit, task, title, 1, build_cells, pieces[number])))
    for (part,) in _in_order("cells", jobs, progress):
        yield dataclasses.replace(part, filed_by=build.filed_by, partition_digest=partition.digest)


def file_members(members: Members, partition: Partition, filed_by: str) -> Int64[np.ndarray, "n"]:
    """The cell of each row; -1 of those that aren't used."""
    cells = np.full(len(members.used), -1)
    cells[members.used] = file_points(members.latlon[members.used], partition, filed_by)
    return cells


def group_edges(size_bytes: Int[np.ndarray, "C"]) -> Int64[np.ndarray, "e"]:
    """Where groups of successive cells begin, and the last one's end: of about equal size, none much larger than asked.

    A cell is never divided.
    """
    num_cpus = max(1.0, ray.cluster_resources().get("CPU", 1.0))
    wanted = min(GROUP_BYTES, max(1.0, size_bytes.sum() / (GROUPS_A_CPU * num_cpus)))
    group = (np.cumsum(size_bytes) - size_bytes) // wanted  # by what lies before a cell
    return np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1, [len(size_bytes)]]).astype(np.int64)


def _scatter_all(
    members: Members, cells: Int64[np.ndarray, "n"], edges: Int64[np.ndarray, "e"], progress: Progress
) -> list[list[Any]]:
    """References to the images of each group of cells, in pieces: one of each row group that has any."""
    task = ray.remote(_timed)
    pieces: list[list[Any]] = [[] for _ in edges[1:]]
    jobs: list[Job] = []
    asked: list[Int64[np.ndarray, "g"]] = []
    for row_group in members.row_groups:
        rows = np.arange(row_group.start, row_group.start + row_group.num_rows)
        rows = rows[members.used[rows]]
        groups = np.searchsorted(edges, cells[rows], side="right") - 1
        order = np.argsort(groups, kind="stable")
        rows, (present, firsts) = rows[order], np.unique(groups[order], return_index=True)
        if len(rows) == 0:
            continue
        known = (cells[rows], members.ids[rows], members.latlon[rows])
        scatter = partial(_scatter, row_group, rows - row_group.start, known, firsts[1:])
        jobs.append((row_group.title, partial(_submit, task, row_group.title, 1 + len(present), scatter, [])))
        asked.append(present)
    num_bad = 0
    for present, (bad, *references) in zip(asked, _in_order("features", jobs, progress), strict=True):
        num_bad += bad
        for group, reference in zip(present.tolist(), references, strict=True):
            pieces[group].append(reference)
    if num_bad:
        raise InputError(
            f"{num_bad} of {int(members.used.sum())} images have no features, or some that are NaN, infinite or "
            "overflowing; embed those images again or leave them out"
        )
    return pieces


def _scatter(
    row_group: RowGroup,
    rows: Int64[np.ndarray, "m"],
    known: tuple[np.ndarray, ...],
    cuts: Int64[np.ndarray, "c"],
) -> list[Any]:
    """How many of a row group's features are bad, and its images, sorted by group of cells and cut between groups."""
    features, num_bad = read_features(row_group, rows)
    if num_bad:
        return [num_bad, *(() for _ in range(len(cuts) + 1))]  # the build ends, once all are counted
    split = (np.split(array, cuts) for array in (features, *known))
    return [0, *zip(*split, strict=True)]


def _build_group(*pieces: Piece, first: int, last: int, num_features: int, **settings: Any) -> list[PrototypeIndex]:
    """The index of some cells from their images, which come in any order: within a cell they go by id."""
    none = (np.zeros((0, num_features), np.float16), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)))
    features, cells, ids, latlon = (np.concatenate(arrays) for arrays in zip(none, *pieces, strict=True))
    order = np.lexsort((ids, cells))
    bounds = np.searchsorted(cells[order], np.arange(first, last + 1))
    parts = []
    for start, stop in pairwise(bounds):
        rows = order[start:stop]
        parts.append(build_cell(features[rows].astype(np.float32, copy=False), latlon[rows], ids[rows], **settings))
    return [concat(parts)]


def _submit(
    task: Any, title: str, num_outputs: int, function: Callable[..., list[Any]], pieces: list[Any]
) -> list[Any]:
    """References to the function's outputs, the first with its CPU seconds; pieces are fetched before it runs."""
    references = task.options(name=title, num_cpus=CPUS_A_TASK, num_returns=num_outputs).remote(function, *pieces)
    return [references] if num_outputs == 1 else list(references)


def _timed(function: Callable[..., list[Any]], *pieces: Any) -> Any:
    start = time.process_time()  # not the clock's: tasks may share a core
    first, *others = function(*pieces)
    head = first, time.process_time() - start
    return [head, *others] if others else head


def _in_order(step: str, jobs: list[Job], progress: Progress) -> Iterator[list[Any]]:
    """Each job's first output and references to the others, in the jobs' order; only so many jobs are under way."""
    window = num_under_way()
    waiting, running = iter(jobs), deque[tuple[str, list[Any]]]()
    for done in range(1, len(jobs) + 1):
        while len(running) < window and (job := next(waiting, None)):
            running.append((job[0], job[1]()))
        title, references = running.popleft()
        first, seconds = answer_of(title, references[0])
        progress(TaskDone(step=step, title=title, seconds=seconds, done=done, total=len(jobs)))
        yield [first, *references[1:]]
