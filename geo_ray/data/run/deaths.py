"""What is known of processes that died, and what to try next of their block until the image that ends them is found.

A process says what it is about to do with which rows of a block before it does it. When another one begins with the
same block, the one before has died in what it said last. Workers also die by chance, so no image is blamed before it
has ended several of them, the last ones while it was tried alone. No Ray here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

Span = tuple[int, int]  # rows of a block, from the first to before the second number
Act = Literal["reading", "decoding early", "decoding", "encoding", "answering"]  # early: by who reads it
WHERE = {"reading": " read", "decoding early": " read", "decoding": " decode", "encoding": " encode", "answering": ""}
Event = dict[str, Any]  # its ``name``, ``text`` for people, and details

# Each death costs a process with its model loaded again, a part that lives next to nothing: so parts are many.
PARTS = 64
DEATHS_TO_BLAME = 3  # with an image among others or alone
DEATHS_ALONE = 2  # of these
READS = 3  # deaths while a block is read that make its shard one that can't be read
LOADS = 3  # deaths of a worker while it loads the model, without a success, that end the run


def tries(whole: Span, died: Iterable[Span], divide: bool = False) -> tuple[list[Span], list[int]]:
    """The spans to try one after the other, and the rows that are to blame: those are not to be tried at all.

    Together the spans are the whole, each row once. Spans that have died are divided: the whole, also where ``divide``
    asks for it, in halves, which take less memory, others in as many parts as cost little. The smallest come first, as
    what died last is in them.
    """
    counts = Counter(died)
    blamed = [first for first, stop in counts if stop - first == 1 and whole[0] <= first < whole[1]
              and is_blamed(first, counts)]  # fmt: skip
    spans = _divided(whole, counts | Counter([whole]) if divide else counts, 2)
    return sorted(spans, key=lambda span: (span[1] - span[0], span)), sorted(blamed)


def _divided(span: Span, died: Counter[Span], parts: int) -> Iterator[Span]:
    first, stop = span
    size = stop - first
    if size < 2 or span not in died:
        yield span
        return
    parts = min(parts, size)
    for part in pairwise(first + size * number // parts for number in range(parts + 1)):
        yield from _divided(part, died, PARTS)


def is_blamed(row: int, died: Counter[Span]) -> bool:
    """Whether a row has ended enough processes, of which enough while it was tried alone."""
    num_with = sum(count for (first, stop), count in died.items() if first <= row < stop)
    return num_with >= DEATHS_TO_BLAME and died[row, row + 1] >= DEATHS_ALONE


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What a process is about to do.

    ``process`` is a name of its own for each that is started. Of what is only now read, ``span`` is empty and says
    where. ``label`` and ``first_row`` say for people what the block is part of, ``image_id`` what a span of one row is.
    """

    shard_id: str
    number: int
    act: Act
    span: Span
    process: str
    label: str = ""
    first_row: int = 0
    image_id: str = ""

    @property
    def block(self) -> str:
        """The block, and whether it is with those who read, decode, encode or answer: several may have it at a time."""
        return f"{self.block_name}{WHERE[self.act]}"

    @property
    def block_name(self) -> str:
        """The name of the block as deaths are noted under."""
        return f"{self.shard_id}-{self.number:06d}"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a process is told that begins with a block: whether the run is to end, and who has died of the block."""

    stop: bool = False
    died: tuple[Span, ...] = ()
    num_read: int = 0  # deaths while it was read


@dataclass(kw_only=True)
class Deaths:
    """All deaths of a run. ``died`` are those that a resumed run must know of too, by block."""

    died: dict[str, list[Span]] = field(default_factory=dict)
    _num_read: Counter[str] = field(default_factory=Counter)
    _begun: dict[str, Attempt] = field(default_factory=dict)
    _loading: dict[str, str] = field(default_factory=dict)  # worker -> the process that loads
    _num_loading: Counter[str] = field(default_factory=Counter)
    _events: list[Event] = field(default_factory=list)

    def begin(self, attempt: Attempt) -> bool:
        """Note an attempt; whether that shows a death that is to be remembered."""
        before = self._begun.get(attempt.block)
        self._begun[attempt.block] = attempt
        if before is None or before.process == attempt.process:
            return False
        self._note(before)
        return before.act != "reading"

    def told(self, attempt: Attempt, stop: bool) -> Told:
        """What the process of this attempt must know."""
        name = attempt.block_name
        return Told(stop=stop, died=tuple(self.died.get(name, ())), num_read=self._num_read[name])

    def end(self, attempt: Attempt) -> None:
        """The process has come through all that it was to do with the block."""
        begun = self._begun.get(attempt.block)
        if begun is not None and begun.process == attempt.process:
            del self._begun[attempt.block]

    def begin_loading(self, worker: str, process: str) -> int:
        """A worker's new process loads the model: how many of its processes have died at that, one after the other."""
        if worker in self._loading:
            self._num_loading[worker] += 1
            times = self._num_loading[worker]
            text = f"a worker died while loading the model ({times} of {LOADS} times)"
            self._events.append({"name": "worker_died", "text": text, "act": "loading", "times": times})
        self._loading[worker] = process
        return self._num_loading[worker]

    def end_loading(self, worker: str) -> None:
        """It has loaded it."""
        self._loading.pop(worker, None)
        self._num_loading.pop(worker, None)

    def take_events(self) -> list[Event]:
        """What has happened since this was asked last."""
        events, self._events = self._events, []
        return events

    def _note(self, dead: Attempt) -> None:
        name = dead.block_name
        if dead.act == "reading":
            self._num_read[name] += 1
            self._events.append(_read_event(dead, self._num_read[name]))
            return
        spans = self.died.setdefault(name, [])
        was_blamed = is_blamed(dead.span[0], Counter(spans))
        spans.append(dead.span)
        counts = Counter(spans)
        self._events.append(_died_event(dead, counts))
        if dead.image_id and is_blamed(dead.span[0], counts) and not was_blamed:
            text = f"image {dead.image_id} ends its worker: its row says kills_worker, all others are answered"
            self._events.append({"name": "kills_worker", "text": text, "image_id": dead.image_id, "label": dead.label})


def _read_event(dead: Attempt, times: int) -> Event:
    row = dead.first_row + dead.span[0]
    text = f"a process died while reading {dead.label} from image {row + 1} on ({times} of {READS} times)"
    return {"name": "worker_died", "text": text, "act": dead.act, "label": dead.label, "row": row, "times": times}


def _died_event(dead: Attempt, died: Counter[Span]) -> Event:
    times = died[dead.span]
    first, stop = (dead.first_row + row for row in dead.span)
    if stop - first == 1:
        what = f"image {dead.image_id} alone"
        then = "leaving it out" if is_blamed(dead.span[0], died) else "trying it once more"
    else:
        what, then = f"images {first + 1} to {stop} of {dead.label}", "trying them in smaller parts"
    again = f" ({times} times)" if times > 1 else ""
    act = dead.act.removesuffix(" early")
    text = f"a worker died while {act} {what}{again}; {then}"
    details = {"act": act, "label": dead.label, "first": first, "stop": stop, "times": times}
    return {"name": "worker_died", "text": text} | details
