"""Ending a run in good order when its process is told to end."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import psutil

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, the first time; the second time they end the process at once.

    Then with the exit code that shells give such an end, and with it the processes that it started, which a local Ray
    has; an exception instead would come wherever the process is, also where a library makes something else of it.
    Only the main thread may ask for signals; elsewhere nothing sets the event.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in ENDING}

    def told(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            _end_at_once(128 + number)
        stop.set()
        name = signal.Signals(number).name
        print(f"{name}: what is under way is finished first; once more ends at once", file=sys.stderr, flush=True)

    for number in ENDING:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(exit_code: int) -> NoReturn:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(exit_code)
