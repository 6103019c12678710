"""URLs fetched from ordinary code: the client's event loop on a thread of its own."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

from aiohttp.abc import AbstractResolver

from geo_ray.data.fetch.client import Client
from geo_ray.data.fetch.policy import FetchPolicy
from geo_ray.data.fetch.prefetch import Content, in_order

Result = TypeVar("Result")


class Fetcher:
    """Fetches URLs on a thread of its own while it is entered. ``resolver`` names the addresses that are checked."""

    def __init__(self, policy: FetchPolicy, resolver: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._resolver = resolver

    def __enter__(self) -> "Fetcher":
        self._loop = asyncio.new_event_loop()
        # Names are resolved on these threads, and as many must be under way as there are connections.
        self._loop.set_default_executor(ThreadPoolExecutor(self._policy.num_connections, "resolver"))
        self._thread = Thread(target=self._loop.run_forever, name="fetcher", daemon=True)
        self._thread.start()
        self._client = self._run(_client(self._policy, self._resolver)).result()
        return self

    def submit(self, url: str) -> Future[list[Content]]:
        """Start to fetch a URL."""
        return self._run(self._fetch(url))

    async def _fetch(self, url: str) -> list[Content]:
        return [await self._client.fetch(url)]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(_end(self._client)).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


async def _client(policy: FetchPolicy, resolver: AbstractResolver | None) -> Client:
    return Client(policy, resolver)  # needs the running loop


async def _end(client: Client) -> None:
    """Stop what is under way, because nobody waits for it any more."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def fetch_urls(urls: Iterable[str], policy: FetchPolicy, resolver: AbstractResolver | None = None) -> Iterator[Content]:
    """What is behind each URL, in order: bytes and an empty string, or None and the code of the problem.

    Held at a time are at most ``num_connections`` answers of ``max_bytes`` that come in, and ``WINDOW_BYTES`` that
    wait to be taken.
    """
    with Fetcher(policy, resolver) as fetcher:
        for _, (content,) in in_order(((None, [fetcher.submit(url)]) for url in urls), 4 * policy.num_connections):
            yield content
