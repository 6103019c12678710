"""Many reads under way at a time, taken in order, with a bound on what they hold."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Content = tuple[bytes | None, str]  # the bytes and an empty string, or None and the code of the problem
Tag = TypeVar("Tag")

WINDOW_BYTES = 256 * 2**20


def in_order(
    reads: Iterable[tuple[Tag, list[Future[Content]]]], max_reads: int, max_bytes: int = WINDOW_BYTES
) -> Iterator[tuple[Tag, list[Content]]]:
    """The results of reads in their order; the next ones start while earlier ones are waited for.

    ``reads`` is pulled, which starts a read, while fewer than ``max_reads`` are under way and what has come holds no
    more than ``max_bytes``.
    """
    window: deque[tuple[Tag, list[Future[Content]]]] = deque()
    for read in reads:
        window.append(read)
        while window and (len(window) >= max_reads or _held(window) > max_bytes):
            yield _taken(window.popleft())
    while window:
        yield _taken(window.popleft())


def _held(window: Iterable[tuple[Tag, list[Future[Content]]]]) -> int:
    """Bytes of the reads that are done."""
    done = (future.result()[0] for _, futures in window for future in futures if future.done())
    return sum(len(content) for content in done if content is not None)


def _taken(read: tuple[Tag, list[Future[Content]]]) -> tuple[Tag, list[Content]]:
    tag, futures = read
    return tag, [future.result() for future in futures]
