"""The shards of an index as actors: placed over the nodes, and restarted by Ray for ever."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import ray
from jaxtyping import Float32, Int
from ray.exceptions import ActorDiedError, RayError
from ray.util.metrics import Counter, Histogram
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from geo_ray.errors import BundleError, GeoRayError, IndexUnavailableError, InputError, last_line
from geo_ray.index.shard import Answer, Question
from geo_ray.remote.shard_client import SECONDS, Patience, Roster
from geo_ray.remote.shard_files import ShardSet, ShardSource, open_source

NAMESPACE = "geo_ray"
DIRECTORY = "directory"
RELOAD_PAUSE_S = 5.0  # before a restarted shard that can't load is restarted again, perhaps on another node
# Freeing a block of this size, the largest that counts, makes glibc's malloc keep up to twice as much when it is freed
# (mallopt(3), M_MMAP_THRESHOLD). Else a young process gives the buffers of a search back to the system, and gets them
# again page by page: 235,000 page faults and four times the CPU for 256 images and 40 cells of 512 features.
LARGEST_KEPT_BYTES = 2**25 - 2**16
Replica = tuple[int, int, int]  # version of the roster, shard, replica


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How many actors hold a shard, what each takes, and how long others wait for it.

    ``num_cpus`` is what Ray reserves for an actor: with 0, one that restarts after its node died never waits for CPU.
    ``max_concurrency`` searches run at a time in an actor, each on ``num_threads`` threads. Actors end with the process
    that started them, however it ends; ``detached`` ones, which need a ``name``, only by ``ShardGroup.stop``.
    """

    num_replicas: int = 1
    num_cpus: float = 0.5
    num_threads: int = 1
    max_concurrency: int = 2
    patience: Patience = field(default_factory=Patience)
    start_timeout_s: float = 600.0  # a shard may have to be downloaded
    drain_s: float = 5.0  # without a call before a replaced actor ends
    drain_timeout_s: float = 60.0
    cache: str = ""  # the folder of copies of what lies at a URI; default: that of all downloads
    name: str = ""
    detached: bool = False

    def __post_init__(self) -> None:
        for name in ("num_replicas", "num_threads", "max_concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"shards: {name}={getattr(self, name)} must be at least 1")
        for name in ("num_cpus", "drain_s", "drain_timeout_s", "start_timeout_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"shards: {name}={getattr(self, name)} must not be negative")
        if self.detached and not self.name:
            raise ValueError("shards: detached=True needs a name, by which they are found and stopped")


class ShardActor:
    """One replica of one shard, memory-mapped from this node's disk.

    A restarted one that can't load ends its process, for Ray to restart it again; Ray gives up an actor that raises.
    """

    def __init__(self, source: ShardSource, key: Replica, options: ShardOptions) -> None:
        np.empty(LARGEST_KEPT_BYTES, np.uint8)  # made and freed
        self._source, self._key = source, key
        self._retired, self._last_call = False, time.monotonic()
        self._totals, self._lock = defaultdict[str, float](float), threading.Lock()
        tags = {"shard": str(key[1]), "replica": str(key[2])}
        self._calls = Counter("geo_ray_shard_calls", "Searches of a shard", (*tags, "method"))
        self._errors = Counter("geo_ray_shard_errors", "Searches of a shard that raised", (*tags, "method"))
        self._seconds = Histogram("geo_ray_shard_seconds", "Time of a search of a shard", SECONDS, (*tags, "method"))
        self._tags = tags
        ray.get_actor(f"{options.name}/{DIRECTORY}", namespace=NAMESPACE).started.remote(key)
        try:
            self._shard = open_source(source, options.num_threads, options.cache)
        except GeoRayError:
            if not ray.get_runtime_context().was_current_actor_reconstructed:
                raise
            time.sleep(RELOAD_PAUSE_S)
            os._exit(1)

    def ask(
        self, question: Question[Answer], cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]
    ) -> tuple[Answer, bool]:
        """See ``Searcher``; and whether another actor has replaced this one."""
        tags = self._tags | {"method": question.name}
        self._last_call = start = time.monotonic()
        self._count("running", 1)
        try:
            return self._shard.ask(question, cells, features), self._retired
        except (GeoRayError, ValueError):
            self._count("errors", 1)
            self._errors.inc(tags=tags)
            raise
        finally:
            self._last_call = time.monotonic()
            self._calls.inc(tags=tags)
            self._seconds.observe(self._last_call - start, tags=tags)
            for name, value in (("running", -1), ("calls", 1), ("seconds", self._last_call - start)):
                self._count(name, value)

    def _count(self, name: str, value: float) -> None:
        with self._lock:
            self._totals[name] += value

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]  # mypy skips Ray
    def retire(self) -> None:
        """From now on tell callers that this actor is replaced."""
        self._retired = True

    @ray.method(concurrency_group="control")  # type: ignore[untyped-decorator]
    def status(self) -> dict[str, Any]:
        """What the shard holds, where it is, and what it has done since it was last started."""
        info, index, totals = self._source.info, self._shard.index, self._totals
        return {
            "state": "retired" if self._retired else "ready",
            "node": ray.get_runtime_context().get_node_id(),
            "pid": os.getpid(),
            "generation": self._source.generation,
            "members": info.num_members,
            "prototypes": info.num_prototypes,
            "size_bytes": index.member_features.size_bytes + index.prototype_features.size_bytes,
            "calls": int(totals["calls"]),
            "seconds": totals["seconds"],
            "errors": int(totals["errors"]),
            "idle_s": 0.0 if totals["running"] else time.monotonic() - self._last_call,
        }


class Directory:
    """Says who answers for the shards at present, and how often each actor was started.

    It runs on the node that started the shards, so that a job doesn't depend on one more node. Restarted, it knows
    nothing until ``ShardGroup`` is next asked for its status; searchers keep to whom they know meanwhile.
    """

    def __init__(self, options: ShardOptions) -> None:
        self._options = options
        self._roster: Roster | None = None
        self._starts: dict[Replica, int] = defaultdict(int)

    def publish(self, roster: Roster) -> None:
        """Replace an older roster."""
        if self._roster is None or roster.version > self._roster.version:
            self._roster = roster

    def roster(self, after: int = -1) -> Roster | None:
        """The roster, where its version is later."""
        return self._roster if self._roster is not None and self._roster.version > after else None

    def options(self) -> ShardOptions:
        """What the shards were started with."""
        return self._options

    def started(self, key: Replica) -> None:
        """An actor says that it starts."""
        self._starts[key] += 1

    def starts(self) -> dict[Replica, int]:
        """How often each actor was started."""
        return dict(self._starts)


def assign_nodes(num_shards: int, num_replicas: int, num_cpus: float, nodes: dict[str, float]) -> list[list[str]]:
    """A node for each shard's replicas, given the nodes' CPUs: evenly, and replicas of a shard apart if nodes suffice.

    ``InputError`` where there is no room for all.
    """
    usable = {node: cpus for node, cpus in nodes.items() if cpus > 0}
    held: dict[str, int] = dict.fromkeys(usable, 0)
    assigned: list[list[str]] = [[] for _ in range(num_shards)]
    for _, shard in product(range(num_replicas), range(num_shards)):
        room = [node for node in usable if (held[node] + 1) * num_cpus <= usable[node]]
        if not room:
            raise InputError(
                f"{num_shards} shards of {num_replicas} replicas of {num_cpus:g} CPUs don't fit on nodes of "
                f"{', '.join(f'{cpus:g}' for cpus in nodes.values())} CPUs; ask for fewer replicas or CPUs"
            )
        apart = [node for node in room if node not in assigned[shard]]
        node = min(apart or room, key=lambda name: (held[name] + 1) / usable[name])
        assigned[shard].append(node)
        held[node] += 1
    return assigned


def start_actors(shards: ShardSet, options: ShardOptions, version: int) -> tuple[tuple[Any, ...], ...]:
    """An actor a replica, when all have loaded; none is left where one can't."""
    nodes = {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]}
    assigned = assign_nodes(len(shards.shards), options.num_replicas, options.num_cpus, nodes)
    actors: list[tuple[Any, ...]] = []
    for shard, source in enumerate(shards.shards):
        made = []
        for number, node in enumerate(assigned[shard]):
            actor = make_actor(
                ShardActor, options, f"{version}/shard-{shard:03d}/{number}", num_cpus=options.num_cpus,
                max_concurrency=options.max_concurrency, concurrency_groups={"control": 1},
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
            )  # fmt: skip
            made.append(actor.remote(source, (version, shard, number), options))
        actors.append(tuple(made))
    try:
        _wait_ready(shards, actors, options.start_timeout_s)
    except GeoRayError:
        end_actors([actor for replicas in actors for actor in replicas])
        raise
    return tuple(actors)


def _wait_ready(shards: ShardSet, actors: Sequence[Sequence[Any]], timeout_s: float) -> None:
    asked = {
        actor.status.remote(): (shard, replica)
        for shard, replicas in enumerate(actors)
        for replica, actor in enumerate(replicas)
    }
    waiting, deadline = list(asked), time.monotonic() + timeout_s
    while waiting:
        ready, waiting = ray.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            shard, replica = asked[waiting[0]]
            raise IndexUnavailableError(
                f"shard {shard} of index {shards.address}, replica {replica}, wasn't ready within {timeout_s:g} s; "
                "see whether its node has free CPUs and reaches the files"
            )
        try:
            ray.get(ready)
        except RayError as error:
            shard, replica = asked[ready[0]]
            last = last_line(error)
            kind, _, message = last.partition(": ")
            if isinstance(error, ActorDiedError) and kind.endswith(BundleError.__name__):
                raise BundleError(message) from error
            raise IndexUnavailableError(
                f"shard {shard} of index {shards.address}, replica {replica}, didn't start: {last}"
            ) from error


def make_actor(kind: type[Any], options: ShardOptions, name: str, **more: Any) -> Any:
    """The class of an actor that Ray restarts for ever, named in our namespace."""
    lifetime = "detached" if options.detached else None
    named: dict[str, Any] = {"name": f"{options.name}/{name}", "namespace": NAMESPACE, "lifetime": lifetime}
    return ray.remote(max_restarts=-1, **named, **more)(kind)


def end_actors(actors: Sequence[Any]) -> None:
    """End actors for good."""
    for actor in actors:
        ray.kill(actor)
