"""Tasks of a build: how many are under way, what they answer, and a bar of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from tqdm import tqdm

from geo_ray.errors import BuildError, last_line

TASKS_A_CPU = 4  # that are under way, with what they hold


@dataclass(frozen=True, kw_only=True)
class TaskDone:
    """A task that is done: of which step, the CPU seconds it took, and how many of the step's tasks are done."""

    step: str
    title: str
    seconds: float
    done: int
    total: int


Progress = Callable[[TaskDone], None]


def num_under_way() -> int:
    """How many tasks may be submitted and not done."""
    return max(2, int(TASKS_A_CPU * ray.cluster_resources().get("CPU", 1)))


def answer_of(title: str, reference: Any) -> Any:
    """What a task answers; ``BuildError`` names the one that failed."""
    try:
        return ray.get(reference)
    except RayError as error:
        raise BuildError(f"{title} failed: {last_line(error)}") from error


@contextmanager
def bar_of_tasks(title: str) -> Iterator[Progress]:
    """What draws a bar of the tasks that are done, on a terminal."""
    with tqdm(desc=title, unit=" tasks", disable=None) as bar:

        def progress(task: TaskDone) -> None:
            bar.set_description(task.step)
            bar.total, bar.n = task.total, task.done
            bar.refresh()

        yield progress
