"""Memory of a run and all its processes, for benchmarks."""

import contextlib
import threading
from collections.abc import Iterator

import psutil


def memory_bytes(process: psutil.Process) -> int:
    """Proportional set size of a process and all below it: what is shared counts once."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            total += member.memory_full_info().pss
    return total


@contextlib.contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """The highest memory of this process and all below it, in GiB, once the context has ended."""
    peak, done, process = {"peak_gib": 0.0}, threading.Event(), psutil.Process()

    def follow() -> None:
        while not done.wait(0.5):
            peak["peak_gib"] = max(peak["peak_gib"], memory_bytes(process) / 2**30)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
