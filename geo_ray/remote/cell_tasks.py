"""Building semantic geocells on Ray: a task a country, then a task a large cell."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import ray
from jaxtyping import Float64

from geo_ray.atlas.boundaries import Boundaries
from geo_ray.cells.hierarchy import Cell, countries
from geo_ray.cells.partition import Partition
from geo_ray.cells.semantic import Semantic, assemble, check_points, fuse_country, split_cell
from geo_ray.remote.build_tasks import Progress, TaskDone, answer_of, bar_of_tasks, num_under_way


def build_cells(
    boundaries: Boundaries,
    latlon: Float64[np.ndarray, "n 2"],
    semantic: Semantic,
    progress: Progress = lambda task: None,
) -> Partition:
    """The semantic geocells of these points (degrees): what ``build_semantic`` answers, by tasks of a connected Ray.

    ``progress`` is told of every task that is done. ``BuildError`` names the country or cell whose task failed.
    """
    check_points(latlon)
    num_countries = len(np.unique(boundaries.countries.astype(str)))
    jobs = ((f"country {country.code}", country) for country in countries(boundaries, latlon))
    fused = _run("countries", fuse_country, jobs, num_countries, semantic, progress)
    cells = [cell for group in fused for cell in group]
    large = [number for number, cell in enumerate(cells) if len(cell.rows) > semantic.sizes.max_size]
    large.sort(key=lambda number: -len(cells[number].rows))  # the longest first, so that none is left over at the end
    cuts = ((_title(cells[number]), cells[number]) for number in large)
    split = dict(zip(large, _run("large cells", split_cell, cuts, len(large), semantic, progress), strict=True))
    return assemble([part for n, cell in enumerate(cells) for part in split.get(n, [cell])], latlon, semantic)


def build_with_progress(boundaries: Boundaries, latlon: Float64[np.ndarray, "n 2"], semantic: Semantic) -> Partition:
    """What ``build_cells`` answers, with a bar of its tasks on a terminal."""
    with bar_of_tasks("cells") as progress:
        return build_cells(boundaries, latlon, semantic, progress)


def _title(cell: Cell) -> str:
    return f"cell of {cell.country}, {cell.admin_1 or 'no admin 1'} ({len(cell.rows)} points)"


def _run(
    step: str,
    function: Callable[[Any, Semantic], list[Cell]],
    jobs: Iterable[tuple[str, Any]],
    total: int,
    semantic: Semantic,
    progress: Progress,
) -> list[list[Cell]]:
    """What the function answers for each of the titled jobs, in their order."""
    answers: dict[int, list[Cell]] = {}
    for number, title, seconds, cells in _completed(function, jobs, semantic):
        answers[number] = cells
        progress(TaskDone(step=step, title=title, seconds=seconds, done=len(answers), total=total))
    return [answers[number] for number in range(total)]


def _completed(
    function: Callable[[Any, Semantic], list[Cell]], jobs: Iterable[tuple[str, Any]], semantic: Semantic
) -> Iterator[tuple[int, str, float, list[Cell]]]:
    """Each job's number, title, seconds and answer, as they are done; only so many are in flight."""
    task = ray.remote(_timed)
    window = num_under_way()
    waiting = enumerate(jobs)
    running: dict[Any, tuple[int, str]] = {}
    while True:
        for number, (title, job) in islice(waiting, window - len(running)):
            running[task.options(name=title, num_cpus=1).remote(function, job, semantic)] = (number, title)
        if not running:
            return
        (reference,), _ = ray.wait(list(running), num_returns=1)
        number, title = running.pop(reference)
        cells, seconds = answer_of(title, reference)
        yield number, title, seconds, cells


def _timed(function: Callable[[Any, Semantic], list[Cell]], job: Any, semantic: Semantic) -> tuple[list[Cell], float]:
    start = time.process_time()  # not the clock's: tasks may share a core
    return function(job, semantic), time.process_time() - start
