"""What the driver of a bulk run and its processes share. Light to import, as it is a process of its own."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from geo_ray.data.record.ledger import DEATHS, MICRO_BATCH, Ledger
from geo_ray.data.run.deaths import Attempt, Deaths, Event, Told


@dataclass(frozen=True)
class Listed:
    """How many rows have been listed, None where only reading tells, and whether these are all."""

    num_rows: int | None = 0
    complete: bool = False


class Coordinator:
    """Knows what has been listed and who has died, and tells those at work what to do. An actor beside the driver.

    Restarted, it knows only of deaths, by the record: it then ends the listing, and with it the pass.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._deaths = Deaths(died=_spans(ledger))
        self._micro_batch: int | None = ledger.agreed(MICRO_BATCH)
        self._said: list[Event] = []
        self._shard_ids: list[str] | None = None
        self._listed, self._stopped = Listed(), False
        self._left_out: dict[str, dict[str, int]] = {}

    def begin(self) -> None:
        """Listing starts, perhaps again."""
        self._shard_ids, self._listed = [], Listed()

    def report(self, shards: list[tuple[str, int | None]], complete: bool) -> bool:
        """Note more shards with their numbers of rows; whether to go on."""
        if self._shard_ids is None:
            return False
        self._shard_ids += [shard_id for shard_id, _ in shards]
        counts = [self._listed.num_rows, *(count for _, count in shards)]
        known = None if None in counts else sum(count for count in counts if count is not None)
        self._listed = Listed(known, complete)
        return not self._stopped

    def listed(self) -> Listed:
        """How much has been listed."""
        return self._listed

    def shard_ids(self) -> list[str]:
        """The shards that have been listed, in order."""
        return self._shard_ids or []

    def leave_out(self, shard_id: str, counts: dict[str, int]) -> None:
        """Note how many files were left out of a shard, or beside all of them (an empty id), by reason."""
        self._left_out[shard_id] = counts

    def left_out(self) -> dict[str, dict[str, int]]:
        """What was left out, of the shards that anything was left out of."""
        return self._left_out

    def stop(self) -> None:
        """Nothing new is begun from now on."""
        self._stopped = True

    def begin_block(self, attempt: Attempt) -> Told:
        """Note what a process is about to do with a block; what it must know of it."""
        if self._deaths.begin(attempt):
            self._ledger.store.write(DEATHS, json.dumps(self._deaths.died).encode())
        return self._deaths.told(attempt, self._stopped)

    def end_block(self, attempt: Attempt) -> None:
        """The process is through with the block."""
        self._deaths.end(attempt)

    def begin_loading(self, worker: str, process: str) -> int:
        """A worker's process begins to load the model: how many before it have died at that."""
        return self._deaths.begin_loading(worker, process)

    def end_loading(self, worker: str) -> None:
        """It has loaded it."""
        self._deaths.end_loading(worker)

    def micro_batch(self, measured: int | None) -> int | None:
        """How many images encoders of this run see at once: what the first has measured; None while none has."""
        if self._micro_batch is None and measured is not None:
            self._micro_batch = measured
            self._ledger.agree(MICRO_BATCH, measured)
        return self._micro_batch

    def say(self, text: str) -> None:
        """Have something told, and noted."""
        self._said.append({"name": "said", "text": text})

    def take_events(self) -> list[Event]:
        """What has happened since this was asked last."""
        said, self._said = self._said, []
        return [*self._deaths.take_events(), *said]


def _spans(ledger: Ledger) -> dict[str, list[tuple[int, int]]]:
    held: dict[str, list[list[int]]] = json.loads(ledger.store.read(DEATHS) or b"{}")
    return {name: [(first, stop) for first, stop in spans] for name, spans in held.items()}


@dataclass(frozen=True, kw_only=True)
class Announcer:
    """Tells the coordinator what this process is about to do; while that is being started again, work goes on."""

    coordinator: Any
    process: str = field(default_factory=lambda: uuid.uuid4().hex)

    def begin(self, attempt: Attempt) -> Told:
        """What is known of the block that this is about. Ends what the process has begun with it before."""
        try:
            told: Told = ray.get(self.coordinator.begin_block.remote(attempt))
        except RayActorError:
            return Told()
        return told

    def end(self, attempt: Attempt) -> None:
        """The process is through with the block."""
        self.coordinator.end_block.remote(attempt)  # in order with what it begins next, so nobody waits

    def begin_loading(self, worker: str) -> int:
        """How many processes of this worker have died while they loaded the model."""
        try:
            return int(ray.get(self.coordinator.begin_loading.remote(worker, self.process)))
        except RayActorError:
            return 0

    def end_loading(self, worker: str) -> None:
        """It has loaded it."""
        self.coordinator.end_loading.remote(worker)

    def micro_batch(self, measure: Callable[[], int]) -> int:
        """The run's micro-batch; it is measured by those who load before anybody has."""
        try:
            agreed: int | None = ray.get(self.coordinator.micro_batch.remote(None))
            measured = measure() if agreed is None else agreed
            return int(ray.get(self.coordinator.micro_batch.remote(measured)))
        except RayActorError:
            return measure()

    def say(self, text: str) -> None:
        """Have something told, and noted."""
        self.coordinator.say.remote(text)
