"""Threads that share a search."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

A = TypeVar("A")
B = TypeVar("B")

_turn = (
    threading.Lock()
)  # the number of BLAS' threads is the process', so searches with threads of their own take turns


class Workers:
    """So many threads. With more than one, BLAS keeps to one in each; with one, to those it is set to."""

    def __init__(self, num_threads: int) -> None:
        if num_threads < 1:
            raise ValueError(f"num_threads={num_threads} must be at least 1")
        self.num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, "search") if num_threads > 1 else None

    def map(self, function: Callable[[A], B], jobs: Iterable[A]) -> list[B]:
        """The function's answers in the jobs' order."""
        if self._pool is None:
            return [function(job) for job in jobs]
        with _turn, _blas().limit(limits=1, user_api="blas"):
            return list(self._pool.map(function, jobs))


@lru_cache(maxsize=1)
def _blas() -> Any:
    """The BLAS libraries that are loaded; to look for them takes milliseconds."""
    return ThreadpoolController()
