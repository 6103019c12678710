"""What the driver of a bulk run and those who list and read share. Light to import, as it is a process of its own."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError


@dataclass(frozen=True)
class Listed:
    """How many rows have been listed, None where only reading tells, and whether these are all."""

    num_rows: int | None = 0
    complete: bool = False


class Coordinator:
    """Knows what has been listed, and tells those who list and read whether to go on. An actor beside the driver.

    Restarted, it knows nothing: it then ends the listing, and with it the pass.
    """

    def __init__(self) -> None:
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

    def stopped(self) -> bool:
        """Whether the run is to end."""
        return self._stopped


def told_to_stop(coordinator: Any) -> bool:
    """Whether the run is to end; while the coordinator is being started again, it goes on."""
    try:
        return bool(ray.get(coordinator.stopped.remote()))
    except RayActorError:
        return False
