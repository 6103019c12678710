"""Place: how wide a graph runs and where, never what it computes."""

import math
from dataclasses import dataclass

from geo_ray.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Place:
    """Workers that hold the graph, and what each takes.

    With GPUs, decoding runs apart on CPU tasks; without, one actor runs all stages, which spares moving pixels.
    """

    num_workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    batch_size: int = 256
    decode_apart: bool = False

    def __post_init__(self) -> None:
        for name in ("num_workers", "cpus_per_worker", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def device(self) -> str:
        """The device of each worker."""
        return "cuda" if self.gpus_per_worker else "cpu"

    def check(self, cpus: float) -> None:
        """Raise ``InputError`` when the workers would leave no CPU for reading, which deadlocks the pipeline."""
        taken = self.num_workers * self.cpus_per_worker
        if taken + 1 > cpus:
            raise InputError(
                f"{self.num_workers} workers of {self.cpus_per_worker} CPUs leave none of the cluster's {cpus:g} CPUs "
                f"for reading; ask for at most {max(0, math.floor((cpus - 1) / self.cpus_per_worker))} workers"
            )


def plan(cpus: float, gpus: float, num_workers: int | None = None, batch_size: int = 256) -> Place:
    """The place for a cluster of this size: a worker a GPU, or a worker a CPU with some kept for reading and writing.

    Kept are one CPU in sixteen, and at least two where there are three or more.
    """
    if gpus >= 1:
        place = Place(
            num_workers=num_workers or int(gpus), gpus_per_worker=1.0, batch_size=batch_size, decode_apart=True
        )
    else:
        place = Place(num_workers=num_workers or max(1, math.floor(cpus - max(2, cpus / 16))), batch_size=batch_size)
    place.check(cpus)
    return place
