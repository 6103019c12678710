"""Place: how wide a graph runs and where, never what it computes."""

import math
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from geo_ray.errors import InputError

# An image of 640 x 480 takes a core 3 ms to decode, and 1 ms to be located and written, on the machines of GPUs.
LOCATORS_PER_CPU = 0.25


@dataclass(frozen=True, kw_only=True)
class Place:
    """Workers that hold the graph, and what each takes.

    With GPUs, decoding runs apart on CPU tasks, beside at most ``num_readers`` that read, and ``num_locators`` actors
    find places by the features, so that GPUs wait for neither; without, one actor runs all stages, which spares moving
    pixels. With ``search_on_gpu`` what is compared with all features of a head, an index or a gallery is so on the
    GPUs; locators do what is left. With ``decode_on_gpu`` files travel to the GPUs, which decode what JPEG they can.
    ``num_workers`` is how many there are at least; with ``max_workers`` the pool grows to that while there is work and
    room, or where the cluster can add nodes. ``memory_per_worker``, in bytes, is set aside for each of them.
    Without ``num_index_shards`` each worker searches the index by itself; with them, shard actors do, which take CPUs
    that Ray Data doesn't know of and must leave alone (``data_cpus``).
    """

    num_workers: int = 1
    max_workers: int | None = None
    cpus_per_worker: int = 1
    memory_per_worker: int = 0
    gpus_per_worker: float = 0.0
    batch_size: int = 256
    decode_apart: bool = False
    num_locators: int = 0
    cpus_per_locator: float = 0.5
    num_readers: int | None = None
    search_on_gpu: bool = False
    decode_on_gpu: bool = False
    num_index_shards: int = 0
    num_index_replicas: int = 1
    cpus_per_index_shard: float = 0.5

    def __post_init__(self) -> None:
        for name in ("num_workers", "cpus_per_worker", "batch_size", "num_index_replicas"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("num_index_shards", "cpus_per_index_shard", "memory_per_worker", "num_locators"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.max_workers is not None and self.max_workers < self.num_workers:
            raise ValueError(f"max_workers={self.max_workers} must be at least num_workers={self.num_workers}")

    @property
    def device(self) -> str:
        """The device of each worker."""
        return "cuda" if self.gpus_per_worker else "cpu"

    @property
    def decode_device(self) -> str | None:
        """The device of torch that workers decode on, None for the CPU."""
        return self.device if self.decode_on_gpu else None

    @property
    def search_device(self) -> str | None:
        """The device of torch that workers search on, None for the CPU."""
        return self.device if self.search_on_gpu else None

    @property
    def index_cpus(self) -> float:
        """What all replicas of all shards of the index take."""
        return self.num_index_shards * self.num_index_replicas * self.cpus_per_index_shard

    def data_cpus(self, cpus: float) -> float:
        """What is left of the cluster's CPUs for Ray Data: its workers, reading and writing."""
        return cpus - self.index_cpus

    def cpus_to_decode(self, cpus: float) -> float:
        """What workers and locators leave of the cluster's CPUs, to read and to decode."""
        taken = self.num_workers * self.cpus_per_worker + self.num_locators * self.cpus_per_locator
        return self.data_cpus(cpus) - taken

    @property
    def workers_text(self) -> str:
        """How many workers, in words."""
        most = f" to {self.max_workers}" if self.max_workers not in (None, self.num_workers) else ""
        return f"{self.num_workers}{most}"

    def room(self, resources: dict[str, float]) -> int:
        """How many workers find room in a cluster of these resources beside what reads."""
        cpus = self.data_cpus(resources.get("CPU", 0.0)) - self.num_locators * self.cpus_per_locator
        rooms = [(cpus - 1) / self.cpus_per_worker]
        if self.gpus_per_worker:
            rooms.append(resources.get("GPU", 0.0) / self.gpus_per_worker)
        if self.memory_per_worker:
            rooms.append(resources.get("memory", 0.0) / self.memory_per_worker)
        return max(0, math.floor(min(rooms)))

    def check(self, cpus: float, memory: float = math.inf) -> None:
        """Raise ``InputError`` when workers would wait for ever: for memory, or for reading that has no CPU."""
        if self.num_workers * self.memory_per_worker > memory:
            raise InputError(
                f"{self.num_workers} workers of {self.memory_per_worker / 2**30:.1f} GiB take more than the "
                f"{memory / 2**30:.1f} GiB that the cluster has; ask for at most "
                f"{math.floor(memory / self.memory_per_worker)} workers, or less memory for each"
            )
        left = self.data_cpus(cpus) - self.num_locators * self.cpus_per_locator
        if self.cpus_to_decode(cpus) < 1:
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
    max_workers: int | None = None,
    memory: float = math.inf,
    memory_per_worker: int = 0,
    gpus_per_worker: float = 1.0,
    num_index_shards: int = 0,
    num_index_replicas: int = 1,
    cpus_per_index_shard: float = 0.5,
) -> Place:
    """The place for a cluster of this size: a worker a GPU, or a worker a CPU with some kept for reading and writing.

    Several workers share a GPU with less than one as ``gpus_per_worker``; all of them have what there is of less than
    that. A cluster without GPUs is asked for none.

    Kept are one CPU in sixteen, and at least two where there are three or more, beside those of the index. There are
    no more workers than ``memory`` has room for, at ``memory_per_worker`` bytes each.
    """
    index = Place(
        batch_size=batch_size,
        memory_per_worker=memory_per_worker,
        num_index_shards=num_index_shards,
        num_index_replicas=num_index_replicas,
        cpus_per_index_shard=cpus_per_index_shard,
    )
    if gpus > 0:
        share = min(gpus, gpus_per_worker)
        most = math.floor(max(1.0, gpus)) * math.floor(min(1.0, gpus) / share)  # none has parts of two
        index = replace(index, gpus_per_worker=share, decode_apart=True)
    else:
        most = math.floor(index.data_cpus(cpus) - max(2, cpus / 16))
    if memory_per_worker:
        most = math.floor(min(most, memory / memory_per_worker))
    place = replace(index, num_workers=num_workers or max(1, most), max_workers=max_workers)
    if gpus > 0:  # where a worker and a reader leave no CPU for locators, workers find the places themselves
        left = place.cpus_to_decode(cpus) - 1
        wanted = max(1, round(place.data_cpus(cpus) * LOCATORS_PER_CPU))
        place = replace(place, num_locators=max(0, min(wanted, math.floor(left / place.cpus_per_locator))))
    place.check(cpus, memory)
    return place
