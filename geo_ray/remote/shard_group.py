"""An index on shard actors: started, watched, replaced by another index and ended as one.

Shard actors take CPUs that Ray Data knows nothing of. So they start before a pipeline is built, ``Place.check`` counts
them, and ``limit_data`` keeps Ray Data from planning with them: else its workers may take the CPU that a restarted
shard waits for, while they wait for that shard.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import ray
from ray.data import DataContext, ExecutionResources
from ray.exceptions import RayError

from geo_ray.errors import GeoRayError, IndexUnavailableError, InputError
from geo_ray.index.index_folder import check_info
from geo_ray.remote.place import Place, beside_driver
from geo_ray.remote.shard_actors import (
    DIRECTORY,
    NAMESPACE,
    Directory,
    ShardOptions,
    end_actors,
    make_actor,
    start_actors,
)
from geo_ray.remote.shard_client import RemoteSearcher, Roster, ShardRuntime
from geo_ray.remote.shard_files import ShardSet, find_shards

STATUS_TIMEOUT_S = 10.0


class ShardGroup:
    """All actors of an index: hands out searchers, swaps in a new index, tells how they are, ends them."""

    def __init__(self, directory: Any, roster: Roster, options: ShardOptions) -> None:
        self._directory, self._roster, self._options = directory, roster, options

    def __enter__(self) -> "ShardGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def roster(self) -> Roster:
        """Who answers for what."""
        return self._roster

    @property
    def num_cpus(self) -> float:
        """What the actors take in all; during a swap, twice that."""
        return self._options.num_cpus * sum(len(replicas) for replicas in self._roster.actors)

    def searcher(self) -> RemoteSearcher:
        """A searcher to hand to any process of the cluster."""
        return RemoteSearcher(self._directory, self._roster, self._options.patience)

    def runtime(self, device: str = "cpu", num_threads: int = 1) -> ShardRuntime:
        """The runtime of a graph whose index these shards are."""
        return ShardRuntime(device=device, num_threads=num_threads, shards=self.searcher())

    def swap(self, address: str) -> None:
        """Answer from the index in another folder, without a pause: new actors first, and old ones end when idle.

        ``BundleError`` or ``IndexUnavailableError`` where the new index can't take over; the old one then stays.
        """
        new, old = find_shards(address), self._roster
        check_info(
            new.address,
            new.whole,
            num_features=old.whole.num_features,
            num_cells=old.whole.num_cells,
            metric=old.whole.metric,
            encoder_fingerprint=old.whole.encoder_fingerprint,
            filed_by=old.whole.filed_by,
            partition_digest=old.whole.partition_digest,
            with_hubness="member_hubness" in old.whole.optional,
        )
        actors = start_actors(new, self._options, old.version + 1)
        self._roster = _roster(new, old.version + 1, actors)
        ray.get(self._directory.publish.remote(self._roster))
        retired = [actor for replicas in old.actors for actor in replicas]
        for actor in retired:
            actor.retire.remote()
        self._drain(retired)
        end_actors(retired)

    def _drain(self, actors: Sequence[Any]) -> None:
        """Wait until nobody has called them for a while. A batch that comes later is answered by the new ones."""
        deadline = time.monotonic() + self._options.drain_timeout_s
        while time.monotonic() < deadline:
            idle = [row["idle_s"] for row in _statuses(actors) if row is not None]
            if all(seconds >= self._options.drain_s for seconds in idle):
                return
            time.sleep(min(0.2, self._options.drain_s))

    def status(self) -> list[dict[str, Any]]:
        """A row an actor: ``shard``, ``replica``, ``state``, ``restarts``, and what ``ShardActor.status`` says.

        An actor that doesn't answer is ``unavailable``, and the rest of its row is missing.
        """
        ray.get(self._directory.publish.remote(self._roster))
        starts = ray.get(self._directory.starts.remote())
        places = [(s, r) for s, replicas in enumerate(self._roster.actors) for r in range(len(replicas))]
        rows = _statuses([self._roster.actors[shard][replica] for shard, replica in places])
        return [
            {"shard": shard, "replica": replica, "state": "unavailable"}
            | {"restarts": max(0, starts.get((self._roster.version, shard, replica), 1) - 1)}
            | (row or {})
            for (shard, replica), row in zip(places, rows, strict=True)
        ]

    def stop(self) -> None:
        """End all actors."""
        stop_shards(self._options.name)


def start_shards(
    address: str,
    options: ShardOptions | None = None,
    *,
    num_features: int | None = None,
    num_cells: int | None = None,
    encoder_fingerprint: str = "",
) -> ShardGroup:
    """The index in a folder or at a URI on shard actors of the connected Ray, once every one of them has loaded.

    Raises ``BundleError`` where the index is damaged, or not of the given encoder and partition, ``InputError`` where
    the cluster is too small, ``IndexUnavailableError`` where actors find no room in time.
    """
    options = options or ShardOptions()
    shards = find_shards(address)
    check_info(
        shards.address,
        shards.whole,
        num_features=num_features,
        num_cells=num_cells,
        encoder_fingerprint=encoder_fingerprint,
    )
    options = replace(options, name=options.name or f"index-{uuid.uuid4().hex[:8]}")
    try:
        directory = make_actor(Directory, options, DIRECTORY, **beside_driver()).remote(options)
    except ValueError as error:  # Ray's, of a name that is taken
        raise InputError(f"an index named {options.name!r} runs already; stop it, or give another name") from error
    try:
        roster = _roster(shards, 0, start_actors(shards, options, 0))
    except GeoRayError:
        stop_shards(options.name)
        raise
    ray.get(directory.publish.remote(roster))
    return ShardGroup(directory, roster, options)


def connect_shards(name: str) -> ShardGroup:
    """The running shards of this name; ``InputError`` where there are none."""
    try:
        directory = ray.get_actor(f"{name}/{DIRECTORY}", namespace=NAMESPACE)
    except ValueError as error:
        raise InputError(f"no index named {name!r} runs on this cluster; start it first") from error
    roster, options = ray.get([directory.roster.remote(), directory.options.remote()])
    if roster is None:
        raise IndexUnavailableError(f"index {name!r} is starting, or its directory restarted; start it again")
    return ShardGroup(directory, roster, options)


def stop_shards(name: str) -> None:
    """End all actors of the index of this name, also those that a start or swap cut short has left."""
    named = ray.util.list_named_actors(all_namespaces=True)
    found = [each["name"] for each in named if each["namespace"] == NAMESPACE and each["name"].startswith(f"{name}/")]
    end_actors([ray.get_actor(each, namespace=NAMESPACE) for each in found])


@contextlib.contextmanager
def limit_data(data_cpus: float) -> Iterator[None]:
    """Let pipelines that are built meanwhile plan with so many CPUs (``Place.data_cpus``)."""
    options = DataContext.get_current().execution_options
    before = options.resource_limits
    options.resource_limits = ExecutionResources.for_limits(cpu=data_cpus)
    try:
        yield
    finally:
        options.resource_limits = before


@contextlib.contextmanager
def index_runtime(index: ShardSet, place: Place) -> Iterator[ShardRuntime]:
    """The runtime of workers that search this index on shard actors, which last as long as the context does.

    The pipeline must be built and run inside it. Raises as ``start_shards`` does.
    """
    options = ShardOptions(num_replicas=place.num_index_replicas, num_cpus=place.cpus_per_index_shard)
    data_cpus = place.data_cpus(ray.cluster_resources().get("CPU", 0.0))
    with start_shards(index.address, options) as group, limit_data(data_cpus):
        yield group.runtime(place.device, place.cpus_per_worker)


def _roster(shards: ShardSet, version: int, actors: tuple[tuple[Any, ...], ...]) -> Roster:
    return Roster(
        version=version,
        address=shards.address,
        generation=shards.generation,
        whole=shards.whole,
        owners=shards.owners,
        actors=actors,
    )


def _statuses(actors: Sequence[Any]) -> list[dict[str, Any] | None]:
    """What the actors say of themselves; None of one that doesn't answer."""
    asked = [actor.status.remote() for actor in actors]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=STATUS_TIMEOUT_S)
    rows: list[dict[str, Any] | None] = []
    for reference in asked:
        try:
            rows.append(ray.get(reference) if reference in ready else None)
        except RayError:  # it restarts, or is gone
            rows.append(None)
    return rows
