"""Many reads under way at a time, taken in order, with a bound on what they hold."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from threading import Lock
from typing import TypeVar

Content = tuple[bytes | None, str]  # the bytes and an empty string, or None and the code of the problem
Tag = TypeVar("Tag")

WINDOW_BYTES = 256 * 2**20


def in_order(
    reads: Iterable[tuple[Tag, list[Future[list[Content]]]]], max_reads: int, max_bytes: int = WINDOW_BYTES
) -> Iterator[tuple[Tag, list[Content]]]:
    """The results of reads in their order; the next ones start while earlier ones are waited for.

    A read may bring several contents. ``reads`` is pulled, which starts a read, while fewer than ``max_reads`` are
    under way and what has come holds no more than ``max_bytes``.
    """
    window: deque[tuple[Tag, list[Future[list[Content]]]]] = deque()
    held = _Held()
    for tag, futures in reads:
        window.append((tag, futures))
        for future in futures:
            future.add_done_callback(held.came)
        while window and (len(window) >= max_reads or held.size > max_bytes):
            yield held.taken(*window.popleft())
    while window:
        yield held.taken(*window.popleft())


class _Held:
    """Bytes of the reads that are done and not taken; counted as they come, since asking all of them is slow."""

    def __init__(self) -> None:
        self.size = 0
        self._lock = Lock()

    def came(self, future: Future[list[Content]]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._add(_num_bytes(future.result()))

    def taken(self, tag: Tag, futures: list[Future[list[Content]]]) -> tuple[Tag, list[Content]]:
        contents = [content for future in futures for content in future.result()]
        self._add(-_num_bytes(contents))
        return tag, contents

    def _add(self, count: int) -> None:
        with self._lock:
            self.size += count


def _num_bytes(contents: list[Content]) -> int:
    return sum(len(content or b"") for content, _ in contents)
