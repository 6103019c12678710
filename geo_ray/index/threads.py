"""Threads that share a search, while BLAS keeps to one of its own in each."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

A = TypeVar("A")
B = TypeVar("B")


class Workers:
    """A pool of so many threads; one is the caller's own."""

    def __init__(self, num_threads: int) -> None:
        if num_threads < 1:
            raise ValueError(f"num_threads={num_threads} must be at least 1")
        self.num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, "search") if num_threads > 1 else None

    def map(self, function: Callable[[A], B], jobs: Iterable[A]) -> list[B]:
        """The function's answers in the jobs' order; BLAS has one thread meanwhile."""
        with _single_threaded_blas():
            return list(self._pool.map(function, jobs) if self._pool else map(function, jobs))


@lru_cache(maxsize=1)
def _blas() -> Any:
    """The BLAS libraries that are loaded; to look for them takes milliseconds."""
    return ThreadpoolController()


_lock = threading.Lock()
_inside: list[Any] = []  # what restores BLAS' threads, once for each search under way; the first one counts


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """One BLAS thread while any search is under way: the setting is the process', and searches may overlap."""
    with _lock:
        _inside.append(_inside[0] if _inside else _blas().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _inside.pop()
            if not _inside:
                limit.restore_original_limits()
