"""Place: how wide a graph runs and where, never what it computes."""

import math
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from geo_ray.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Place:
    """Workers that hold the graph, and what each takes.

    With GPUs, decoding runs apart on CPU tasks; without, one actor runs all stages, which spares moving pixels.
    Without ``num_index_shards`` each worker searches the index by itself; with them, shard actors do, which take CPUs
    that Ray Data doesn't know of and must leave alone (``data_cpus``).
    """

    num_workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    batch_size: int = 256
    decode_apart: bool = False
    num_index_shards: int = 0
    num_index_replicas: int = 1
    cpus_per_index_shard: float = 0.5

    def __post_init__(self) -> None:
        for name in ("num_workers", "cpus_per_worker", "batch_size", "num_index_replicas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("num_index_shards", "cpus_per_index_shard"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")

    @property
    def device(self) -> str:
        """The device of each worker."""
        return "cuda" if self.gpus_per_worker else "cpu"

    @property
    def index_cpus(self) -> float:
        """What all replicas of all shards of the index take."""
        return self.num_index_shards * self.num_index_replicas * self.cpus_per_index_shard

    def data_cpus(self, cpus: float) -> float:
        """What is left of the cluster's CPUs for Ray Data: its workers, reading and writing."""
        return cpus - self.index_cpus

    def check(self, cpus: float) -> None:
        """Raise ``InputError`` when the workers would leave no CPU for reading, which deadlocks the pipeline."""
        left = self.data_cpus(cpus)
        if self.num_workers * self.cpus_per_worker + 1 > left:
            index = f" and an index that takes {self.index_cpus:g}" if self.index_cpus else ""
            raise InputError(
                f"{self.num_workers} workers of {self.cpus_per_worker} CPUs{index} leave none of the cluster's "
                f"{cpus:g} CPUs for reading; ask for at most "
                f"{max(0, math.floor((left - 1) / self.cpus_per_worker))} workers"
            )


def beside_driver() -> dict[str, Any]:
    """Options of an actor that takes next to nothing and is to be on the node of the process that starts it.

    A byte of memory, because Ray puts an actor that asks for nothing on any node, whatever its strategy says.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return {"num_cpus": 0, "memory": 1, "scheduling_strategy": here}


def plan(
    cpus: float,
    gpus: float,
    num_workers: int | None = None,
    batch_size: int = 256,
    *,
    num_index_shards: int = 0,
    num_index_replicas: int = 1,
    cpus_per_index_shard: float = 0.5,
) -> Place:
    """The place for a cluster of this size: a worker a GPU, or a worker a CPU with some kept for reading and writing.

    Kept are one CPU in sixteen, and at least two where there are three or more, beside those of the index.
    """
    index = Place(
        batch_size=batch_size,
        num_index_shards=num_index_shards,
        num_index_replicas=num_index_replicas,
        cpus_per_index_shard=cpus_per_index_shard,
    )
    if gpus >= 1:
        place = replace(index, num_workers=num_workers or int(gpus), gpus_per_worker=1.0, decode_apart=True)
    else:
        spare = math.floor(index.data_cpus(cpus) - max(2, cpus / 16))
        place = replace(index, num_workers=num_workers or max(1, spare))
    place.check(cpus)
    return place
