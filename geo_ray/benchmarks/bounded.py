"""A run in a process of its own, whose memory is measured and bounded: what takes too much is ended."""

import contextlib
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from geo_ray.benchmarks.peak_memory import memory_bytes

ASKED_EVERY_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """What a run answered, None where it was ended, and the most memory of it and all processes below it, in bytes."""

    answer: Any
    peak_bytes: int
    ended: bool = False


def default_bound() -> int:
    """Two thirds of the machine's memory, in bytes."""
    return int(psutil.virtual_memory().total * 2 / 3)


def run_bounded(run: Callable[[], Any], max_bytes: int) -> Bounded:
    """Run in a process of its own, which is ended, with all below it, when they take more than ``max_bytes``.

    ``run`` and its answer are pickled. ``RuntimeError`` where the process ends without an answer.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(run, theirs))
    process.start()
    theirs.close()
    peak, watched = 0, psutil.Process(process.pid)
    while not ours.poll(ASKED_EVERY_S):
        with contextlib.suppress(psutil.Error):
            peak = max(peak, memory_bytes(watched))
        if peak > max_bytes:
            _end(watched)
            process.join()
            return Bounded(answer=None, peak_bytes=peak, ended=True)
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the run ended with exit code {process.exitcode} and no answer") from None
    process.join()
    return Bounded(answer=answer, peak_bytes=peak)


def _answer(run: Callable[[], Any], pipe: Any) -> None:
    pipe.send(run())


def _end(process: psutil.Process) -> None:
    for one in (*process.children(recursive=True), process):
        with contextlib.suppress(psutil.Error):
            one.kill()
