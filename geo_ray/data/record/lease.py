"""The right to write to an output: one run at a time has it, and it ends with the run however that ends."""

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from geo_ray.data.record.storage import Store
from geo_ray.errors import GeoRayError, OutputError

LOCK = "_LOCK"
RENEWED_S = 10.0
STALE_S = 45.0  # without a sign of life, of a run on another machine


class Lease:
    """Holds a store's lock while it is entered.

    A lock whose run is dead is taken over: at once where its process was on this machine, else when it has given no
    sign of life for ``stale_s``, which is waited for. ``OutputError`` where the other run lives.
    """

    def __init__(self, store: Store, renewed_s: float = RENEWED_S, stale_s: float = STALE_S) -> None:
        self._store, self._renewed_s, self._stale_s = store, renewed_s, stale_s
        self._mine: dict[str, Any] = {"token": uuid.uuid4().hex, "host": socket.gethostname(), "space": _space()}
        self._mine |= {"pid": os.getpid(), "started": _started(os.getpid())}
        self._ended, self._lost = threading.Event(), False

    def __enter__(self) -> "Lease":
        while not self._store.create(LOCK, self._content()):
            self._wait_for_its_end()
        if self._holder().get("token") != self._mine["token"]:  # two have taken it over at a time
            raise OutputError(f"output {self._store.uri!r}: another run has just begun to write there; let it end")
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if self._holder().get("token") == self._mine["token"]:
            self._store.delete(LOCK)

    def check(self) -> None:
        """Raise ``OutputError`` where another run has taken the output over, as it may after long silence of ours."""
        if self._lost or self._holder().get("token") != self._mine["token"]:
            raise OutputError(f"output {self._store.uri!r} was taken over by another run; this one ends here")

    def _wait_for_its_end(self) -> None:
        """Until the lock is gone; deletes it where its run is dead."""
        holder, before = self._holder(), self._store.read(LOCK)
        while self._store.read(LOCK) == before and before is not None:
            age = self._store.age_s(LOCK)
            if age is None:
                return
            if _is_dead(holder) or age > self._stale_s:
                self._store.delete(LOCK)
                return
            if _is_here(holder):  # and lives: no sign of it need be waited for
                break
            time.sleep(min(1.0, self._stale_s / 4))
        if self._store.read(LOCK) is not None:
            raise OutputError(
                f"output {self._store.uri!r} is being written by another run ({holder.get('host')}, process "
                f"{holder.get('pid')}); wait for its end, or name another --output"
            )

    def _renew(self) -> None:
        while not self._ended.wait(self._renewed_s):
            try:
                if self._holder().get("token") != self._mine["token"]:
                    self._lost = True
                    return
                self._store.write(LOCK, self._content())
            except GeoRayError:  # the next renewal may come through; the run itself finds out what is wrong
                continue

    def _content(self) -> bytes:
        return json.dumps(self._mine | {"alive_at": time.time()}).encode()

    def _holder(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._store.read(LOCK) or b"{}")
        except ValueError:
            return {}
        return found


def _space() -> str:
    """Names the set of processes that a number means something in: containers have their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _is_here(holder: dict[str, Any]) -> bool:
    """Whether the run's process was started on this machine, where its number can be looked up."""
    return bool(_space()) and (holder.get("host"), holder.get("space")) == (socket.gethostname(), _space())


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the run's process was on this machine and is no more."""
    return _is_here(holder) and _started(holder["pid"]) != holder["started"]


def _started(pid: int) -> int | None:
    """When a process of this machine was started, in ticks since boot; None of one that is no more."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(fields[18])
