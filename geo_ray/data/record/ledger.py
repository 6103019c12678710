"""The record of a bulk run beside its output: what was asked for, what happened, what is done.

run.json        what decides the answers; another run is refused by it
parts/          a file a block of rows that is done (blocks.py), until its rows are in a file of predictions
predictions/    the same rows in files of a sensible size, made of parts while the run goes on (prediction_files.py)
ledger/         an entry a file of predictions: which blocks are in it (entries.py)
left_out.json   how many files were left out of which shard, for which reason
events.jsonl    what happened when
micro_batch.json  how many images encoders see at once, where that was measured on the device
decode.json       where images are decoded, cpu or gpu, where workers have GPUs
deaths.json     in which rows of which blocks workers have died, where some have
manifest.json, _SUCCESS    written last
"""

import dataclasses
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from geo_ray.data.record.blocks import Block, block_of
from geo_ray.data.record.entries import ENTRY_NAME, ENTRY_SUFFIX, FileEntry, entries_before, read_entry
from geo_ray.data.record.storage import Store, open_store
from geo_ray.errors import OutputError

RUN, EVENTS, MANIFEST, SUCCESS = "run.json", "events.jsonl", "manifest.json", "_SUCCESS"
LEFT_OUT = "left_out.json"
PARTS, PREDICTIONS, ENTRIES = "parts", "predictions", "ledger"
ENTRIES_BEFORE = "ledger.json"  # one file for all, as earlier versions wrote it
READ_AT_ONCE = 16  # small files: each is a request, and waits more than it computes
DEATHS = "deaths.json"
MICRO_BATCH, DECODE = "micro_batch", "decode"  # what is agreed on when workers are known
SUFFIX = ".parquet"
LATER = (
    "max_pixels",
    "micro_batch",
    "hashes",
    "min_probability",
    "max_radius_km",
    "within",
)  # of a run's key, added when runs without it could be resumed
_EVENT = threading.Lock()  # events come of several threads, and each writes the whole file


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """What decides a run's answers; results of another key are never mixed in. Inputs may grow between runs."""

    bundle_fingerprint: str
    top_k: int | None
    inputs: tuple[str, ...]
    features: bool = False
    views_by: str | None = None
    image_column: str | None = None
    id_column: str | None = None
    image_folder: str | None = None
    dtype: str = "auto"
    index: str = ""  # the generation of one in place of the bundle's own
    exif: str = "ignore"
    max_pixels: int | None = None
    micro_batch: int | None = None
    hashes: bool | None = None
    min_probability: float | None = None
    max_radius_km: float | None = None
    within: str | None = None  # the fingerprint of the bundle of cells that says where addresses are looked for

    @property
    def fingerprint(self) -> str:
        """A short digest of all of it; what earlier versions had no name for counts only where it was asked for."""
        known = dataclasses.asdict(self)
        for name in LATER:
            if known[name] is None:
                del known[name]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


class Ledger:
    """One run's output, local or remote. Methods raise ``OutputError`` where it can't be read or written."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.store: Store = open_store(output)
        self._events: list[str] | None = None

    def claim(self, key: RunKey, resume: bool, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """Claim the output for this run; the settings that it was begun with, now or before.

        ``settings`` are what a resumed run must keep though it doesn't decide answers. Raises ``OutputError`` when the
        output holds results that this run must not touch.
        """
        before = self.run()
        if before is None:
            if self.store.names(PREDICTIONS) or self.store.names(PARTS):
                raise OutputError(
                    f"output {self.output!r} holds prediction files of unknown origin; name another --output"
                )
            begun = {"fingerprint": key.fingerprint, "settings": settings or {}}
            self._write_json(RUN, dataclasses.asdict(key) | begun)
            return settings or {}
        if before["fingerprint"] != key.fingerprint:
            raise OutputError(f"output {self.output!r} holds another run's results ({_difference(before, key)}); "
                              "name another --output, or delete it")  # fmt: skip
        if not resume:
            raise OutputError(
                f"output {self.output!r} holds results of this run; pass --resume to complete it, or delete it"
            )
        return dict(before.get("settings", {}))

    def run(self) -> dict[str, Any] | None:
        """What ``run.json`` says; None where there is none."""
        content = self.store.read(RUN)
        return None if content is None else dict(json.loads(content))

    def commit(self, block: Block, content: bytes) -> None:
        """Note a block as done: its parquet file, at once and whole."""
        self.store.write(f"{PARTS}/{block.name}{SUFFIX}", content)

    def parts(self) -> set[Block]:
        """The blocks that have a part."""
        names = (name.removesuffix(SUFFIX) for name in self.store.names(PARTS))
        return {block for name in names if (block := block_of(name)) is not None}

    def note(self, entry: FileEntry) -> None:
        """Note what a file of predictions holds; it is there by then."""
        self.store.write(f"{ENTRIES}/{entry.name}{ENTRY_SUFFIX}", entry.content())

    def entries(self, known: Mapping[str, FileEntry] = MappingProxyType({})) -> dict[str, FileEntry]:
        """What the files of predictions hold, by name; only what isn't ``known`` is read.

        Of a file that was noted and is lost, nothing is done.
        """
        self._divide_entries_before()
        noted = [name.removesuffix(ENTRY_SUFFIX) for name in self.store.names(ENTRIES) if ENTRY_NAME.fullmatch(name)]
        there = set(self.store.names(PREDICTIONS)) if noted else set[str]()
        wanted = [name for name in noted if f"{name}{SUFFIX}" in there]
        with ThreadPoolExecutor(READ_AT_ONCE) as threads:
            new = threads.map(self._entry, [name for name in wanted if name not in known])
            read = {entry.name: entry for entry in new if entry is not None}
        held = {**known, **read}
        return {name: held[name] for name in wanted if name in held}

    def _entry(self, name: str) -> FileEntry | None:
        content = self.store.read(f"{ENTRIES}/{name}{ENTRY_SUFFIX}")
        return None if content is None else read_entry(name, content)

    def _divide_entries_before(self) -> None:
        """Give what an earlier version has noted an entry a file."""
        content = self.store.read(ENTRIES_BEFORE)
        if content is not None:
            with ThreadPoolExecutor(READ_AT_ONCE) as threads:
                list(threads.map(self.note, entries_before(content)))
            self.store.delete(ENTRIES_BEFORE)

    def event(self, name: str, **details: Any) -> None:
        """Append a line to ``events.jsonl``."""
        with _EVENT:
            if self._events is None:
                self._events = (self.store.read(EVENTS) or b"").decode().splitlines()
            self._events.append(json.dumps({"time": time.time(), "event": name} | details))
            self.store.write(EVENTS, ("\n".join(self._events) + "\n").encode())

    def reopen(self) -> None:
        """Take back that the run is complete, while it is being completed again."""
        self.store.delete(SUCCESS)

    def leave_out(self, by_shard: dict[str, dict[str, int]]) -> None:
        """Note what was left out of shards, by reason; what is known of others, from runs before, stays."""
        held = self._left_out()
        if held | by_shard != held:
            self._write_json(LEFT_OUT, held | by_shard)

    def left_out(self) -> dict[str, int]:
        """How many files were left out in all, by reason, the most first."""
        counts: Counter[str] = Counter()
        for some in self._left_out().values():
            counts.update(some)
        return dict(counts.most_common())

    def _left_out(self) -> dict[str, dict[str, int]]:
        return dict(json.loads(self.store.read(LEFT_OUT) or b"{}"))

    def agreed(self, name: str) -> Any:
        """What the run's workers have agreed on by this name; None before."""
        return json.loads(self.store.read(f"{name}.json") or b"null")

    def agree(self, name: str, value: Any) -> None:
        """Note it, for whoever resumes the run."""
        self.store.write(f"{name}.json", json.dumps(value).encode())

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write ``manifest.json`` and, last, ``_SUCCESS``; what killed writers have left goes before."""
        for folder in (PARTS, PREDICTIONS, ENTRIES):
            self.store.sweep(folder)
        self._write_json(MANIFEST, manifest)
        self.store.write(SUCCESS, b"")

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        self.store.write(name, (json.dumps(value, indent=1) + "\n").encode())


def _difference(before: dict[str, Any], key: RunKey) -> str:
    """What the two runs do not share, in words."""
    now = json.loads(json.dumps(dataclasses.asdict(key)))
    return "; ".join(f"{name} {before.get(name)!r} there, {now[name]!r} asked for" for name in now
                     if before.get(name) != now[name])  # fmt: skip
