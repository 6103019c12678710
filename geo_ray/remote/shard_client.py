"""Search of an index whose shards are actors: one call a shard and batch, and another replica where one fails.

Shapes: N images, K candidate cells, D features.
"""

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from jaxtyping import Float32, Int, Int64
from ray.exceptions import ActorDiedError, RayError, RayTaskError
from ray.util.metrics import Counter, Histogram

from geo_ray.errors import IndexUnavailableError, last_line
from geo_ray.index.index_folder import IndexInfo, check_info
from geo_ray.index.merge import route
from geo_ray.index.shard import Answer, Question, Request, Searcher
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.stage import Runtime

SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]  # of histograms
DIRECTORY_TIMEOUT_S = 5.0
PAUSE_S = 0.1  # before replicas that failed are asked again


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Who answers for what: the actors of each shard by replica, and the shard of each cell.

    ``version`` counts from 0 and rises with every swap; a batch is answered by one version. ``generation`` is what the
    index's manifest says.
    """

    version: int
    address: str
    generation: str
    whole: IndexInfo
    owners: Int64[np.ndarray, "C"]
    actors: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a batch waits for shards.

    A shard that hasn't answered within ``hedge_s`` is asked at another replica too, and the first answer counts. A
    replica that failed or was slow is asked last for ``avoid_s``. After ``patience_s`` without an answer a batch fails;
    Ray finds out that a node has died within about 30 s, and a shard is ready seconds after its restart.
    ``max_in_flight`` batches of a process are under way at a time.
    """

    hedge_s: float = 2.0
    avoid_s: float = 10.0
    patience_s: float = 300.0
    max_in_flight: int = 4

    def __post_init__(self) -> None:
        for name in ("hedge_s", "patience_s", "max_in_flight"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if self.avoid_s < 0:
            raise ValueError(f"avoid_s={self.avoid_s} must not be negative")


class RemoteSearcher(Searcher):
    """Searches all shards of an index on their actors; answers as one shard of the whole would.

    Picklable, a few handles and the cells' owners. Raises what a shard raises of a request, and
    ``IndexUnavailableError`` where a shard has no replica that answers in time.
    """

    def __init__(self, directory: Any, roster: Roster, patience: Patience) -> None:
        self._directory, self._roster, self._patience = directory, roster, patience
        self._slots = threading.BoundedSemaphore(patience.max_in_flight)
        self._avoid: dict[tuple[int, int, int], float] = {}  # version, shard and replica: until when
        self._dead: dict[tuple[int, int, int], str] = {}  # ... and why
        self._turn = os.getpid()  # workers begin with different replicas
        self._seconds = Histogram("geo_ray_shard_batch_seconds", "A batch's wait for all its shards", SECONDS)
        self._retries = Counter("geo_ray_shard_retries", "Calls made again elsewhere", tag_keys=("shard", "reason"))

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteSearcher, (self._directory, self._roster, self._patience)

    @property
    def roster(self) -> Roster:
        """Who is asked at present."""
        return self._roster

    def ask(
        self, question: Question[Answer], cells: Int[np.ndarray, "N K"], features: Float32[np.ndarray, "N D"]
    ) -> Answer:
        """See ``Searcher``."""
        requests, answers = self._ask(question, cells, features)
        return question.merged(requests, answers, cells.shape)

    def _ask(self, question: Question[Any], cells: np.ndarray, features: np.ndarray) -> tuple[list[Request], list[Any]]:
        """The requests and answers of all shards that hold any of the cells, all of one version of the roster."""
        with self._slots:
            while True:
                start, roster = time.monotonic(), self._roster
                requests = route(cells, roster.owners)
                calls = {
                    shard: _Call(shard=shard, arguments=(question, own, features[images]))
                    for shard, (images, own) in requests.items()
                }
                try:
                    answers = self._answers(roster, calls, start + self._patience.patience_s)
                except IndexUnavailableError:
                    if self._roster is not roster or self._refresh():
                        continue  # the shards that are gone have successors: the whole batch is theirs
                    raise
                self._seconds.observe(time.monotonic() - start)
                return list(requests.values()), answers

    def _answers(self, roster: Roster, calls: dict[int, "_Call"], deadline: float) -> list[Any]:
        """The shards' answers, in the order of the calls."""
        answers: dict[int, Any] = {}
        self._turn += 1
        for call in calls.values():
            self._send(roster, call)
        while waiting := [call for shard, call in calls.items() if shard not in answers]:
            references = {reference: call for call in waiting for reference in call.running}
            wait_s = min(call.sent_at for call in waiting) + self._patience.hedge_s - time.monotonic()
            ready, _ = ray.wait(list(references), timeout=max(wait_s, PAUSE_S))
            for reference in ready:
                call = references[reference]
                self._take(roster, call, reference, answers)
            self._check_time(roster, calls, answers, deadline)
            for call in waiting:
                overdue = time.monotonic() > call.sent_at + self._patience.hedge_s
                if call.shard not in answers and (overdue or not call.running):
                    self._send_again(roster, call, overdue)
        if any(stale for _, stale in answers.values()):
            self._refresh()
        return [answers[shard][0] for shard in calls]

    def _send(self, roster: Roster, call: "_Call") -> bool:
        """Ask the best replica that isn't asked yet; False where there is none."""
        replicas = roster.actors[call.shard]
        keys = {replica: (roster.version, call.shard, replica) for replica in range(len(replicas))}
        alive = [replica for replica in keys if keys[replica] not in self._dead]
        if not alive:
            raise IndexUnavailableError(
                f"shard {call.shard} of index {roster.address}: none of its {len(replicas)} replicas is left "
                f"({self._dead[keys[0]]}); start it again"
            )
        idle = [replica for replica in alive if replica not in call.running.values()]
        if not idle:
            return False
        now = time.monotonic()

        def rank(replica: int) -> tuple[bool, int]:
            return self._avoid.get(keys[replica], 0.0) > now, (replica + self._turn) % len(replicas)

        replica = min(idle, key=rank)
        reference = replicas[replica].ask.remote(*call.arguments)
        call.running[reference] = replica
        call.sent_at = now
        return True

    def _send_again(self, roster: Roster, call: "_Call", overdue: bool) -> None:
        for replica in call.running.values():
            self._shun(roster, call.shard, replica)
        replicas = range(len(roster.actors[call.shard]))
        if not call.running and all((roster.version, call.shard, replica) in self._avoid for replica in replicas):
            time.sleep(PAUSE_S)  # all have failed of late; mostly Ray itself waits for their restart
        if self._send(roster, call):
            self._retries.inc(tags={"shard": str(call.shard), "reason": "slow" if overdue else "failed"})
        else:
            call.sent_at = time.monotonic()  # all are asked; look again later

    def _take(self, roster: Roster, call: "_Call", reference: Any, answers: dict[int, Any]) -> None:
        """Note the answer of a call that is done, or what became of the replica that was to answer it."""
        replica = call.running.pop(reference)
        try:
            answer = ray.get(reference)
        except RayError as error:
            cause: Exception | None = error.cause if isinstance(error, RayTaskError) else None
            if cause is not None and not isinstance(cause, RayError):  # of the request: so it is everywhere
                raise cause from error
            key = roster.version, call.shard, replica
            if isinstance(error, ActorDiedError):  # for good: what Ray restarts is unavailable meanwhile, not dead
                self._dead[key] = last_line(error)
            call.failure = last_line(error)
            self._shun(roster, *key[1:])
        else:
            answers.setdefault(call.shard, answer)
            self._avoid.pop((roster.version, call.shard, replica), None)

    def _shun(self, roster: Roster, shard: int, replica: int) -> None:
        self._avoid[roster.version, shard, replica] = time.monotonic() + self._patience.avoid_s

    def _check_time(self, roster: Roster, calls: dict[int, "_Call"], answers: dict[int, Any], deadline: float) -> None:
        late = [call for shard, call in calls.items() if shard not in answers]
        if late and time.monotonic() > deadline:
            why = f" ({late[0].failure})" if late[0].failure else ""
            raise IndexUnavailableError(
                f"shard {late[0].shard} of index {roster.address} didn't answer within "
                f"{self._patience.patience_s:g} s{why}; see whether its actors have nodes with room for them"
            )

    def _refresh(self) -> bool:
        """Ask for a newer roster; whether there is one."""
        try:
            newer = ray.get(self._directory.roster.remote(self._roster.version), timeout=DIRECTORY_TIMEOUT_S)
        except RayError:  # the directory itself restarts; the shards that are known may well answer
            return False
        if newer is None or newer.version <= self._roster.version:
            return False
        self._roster = newer
        return True


@dataclass(kw_only=True)
class _Call:
    """What a batch asks one shard, and the replicas that are asked by what they will answer."""

    shard: int
    arguments: tuple[Any, ...]
    running: dict[Any, int] = field(default_factory=dict)
    sent_at: float = 0.0
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class ShardRuntime(Runtime):
    """A runtime whose searcher asks shard actors."""

    shards: RemoteSearcher

    def searcher(self, bundle: str) -> Searcher:
        """The actors' searcher; ``BundleError`` where their index is not of the bundle's encoder."""
        opened, roster = open_bundle(bundle), self.shards.roster
        check_info(roster.address, roster.whole, **opened.index_wanted())
        return self.shards
