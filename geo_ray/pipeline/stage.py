"""Stages: what one step of the graph reads, writes and does, and what it may ask of its surroundings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from geo_ray.index.shard import Searcher, open_shard
from geo_ray.models.bundle import INDEX, open_bundle
from geo_ray.pipeline.columns import Batch, Column, has_answer, num_rows

Stage = Callable[[Batch], Batch]  # healthy rows in, the columns it writes out; it may add ``problem`` codes


def measured_here(measure: Callable[[], int]) -> int:
    """What measuring says."""
    return measure()


def said_to_nobody(text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """All that a stage may ask of its surroundings: a device, threads, a searcher for an index.

    ``micro_batch_by`` is given what measures the best micro-batch on the device and answers the one to take, which
    where several work together is the same for all. ``say`` is told what people should know.
    """

    device: str = "cpu"
    num_threads: int = 1
    decode_device: str | None = None  # of torch, where JPEG is decoded as far as it can; None: the CPU, by Pillow
    search_device: str | None = None  # of torch, where places are searched; None: the CPU, without torch
    micro_batch_by: Callable[[Callable[[], int]], int] = measured_here
    say: Callable[[str], None] = said_to_nobody

    def searcher(self, bundle: str) -> Searcher:
        """The searcher over a bundle's index; in process here, another runtime may answer with remote shards."""
        return open_shard(open_bundle(bundle).path(INDEX), self.num_threads, device=self.search_device)


@runtime_checkable
class StageSpec(Protocol):
    """A small, frozen, picklable description of a stage; ``build`` loads what is heavy, once per worker."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the columns it needs."""
        ...

    @property
    def writes(self) -> tuple[Column, ...]:
        """The columns it adds."""
        ...

    def build(self, runtime: Runtime) -> Stage:
        """The stage itself."""
        ...


def run_stage(spec: StageSpec, stage: Stage, batch: Batch) -> Batch:
    """The batch with the stage's columns added; rows that have no answer are skipped and get the columns' fill.

    ``ValueError`` where the stage answers another number of rows than it was given, or rows of another shape.
    """
    healthy = np.flatnonzero(has_answer(batch["problem"]))
    written = {column.name: column.blank(num_rows(batch)) for column in spec.writes}
    problem = batch["problem"].astype(object)  # a copy; numpy's own strings would cut codes to their width
    if len(healthy):
        answer = stage({name: batch[name][healthy] for name in spec.reads})
        for name, values in written.items():
            if answer[name].shape != (len(healthy), *values.shape[1:]):
                rows = (len(healthy), *values.shape[1:])
                raise ValueError(f"{type(spec).__name__} answered {name} of shape {answer[name].shape}, not {rows}")
            values[healthy] = answer[name]
        if "problem" in answer:
            problem[healthy] = np.where(problem[healthy] == "", answer["problem"], problem[healthy])
            for column in spec.writes:
                failed = ~has_answer(problem)
                written[column.name][failed] = column.blank(int(failed.sum()))
    return batch | written | {"problem": problem}
