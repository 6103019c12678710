"""Images behind URLs, fetched so that a list of URLs can harm neither this network nor other people's servers.

Built on aiohttp: its timeouts cover a whole exchange, dripping headers included, which a socket's timeout does not; its
resolver is a documented place to check what will be dialled; and one thread holds hundreds of connections. s3fs needs
it anyway.
"""

import asyncio
import datetime
import email.utils
import random
import socket
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from geo_ray.data.fetch.addresses import BlockedAddressError, CheckedResolver, may_dial
from geo_ray.data.fetch.policy import FetchPolicy
from geo_ray.data.fetch.prefetch import Content

REDIRECTS = frozenset({301, 302, 303, 307, 308})
GONE = frozenset({404, 410})
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that are worth another try
UNAVAILABLE = "photo_unavailable"  # Flickr answers for a deleted photo with a redirect to an image of this name
MAX_HOSTS = 10_000  # remembered at a time


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one try ended; ``again`` says whether another may end better, ``wait_s`` what the server asks to wait."""

    content: bytes | None = None
    problem: str = ""
    again: bool = False
    wait_s: float = 0.0


@dataclass
class Host:
    """What one server is asked for at the moment."""

    slots: asyncio.Semaphore
    users: int = 0
    next_start: float = 0.0


class Client:
    """Fetches URLs on the running event loop. ``resolver`` names the addresses that are then checked."""

    def __init__(self, policy: FetchPolicy, resolver: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._slots = asyncio.Semaphore(policy.num_connections)
        self._hosts: dict[tuple[str, int], Host] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=CheckedResolver(policy.allow_private, policy.ports, resolver),
                limit=0,
                ssl=ssl.create_default_context(),
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_timeout_s),
            headers={"User-Agent": policy.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def fetch(self, url: str) -> Content:
        """The bytes behind a URL and an empty string, or None and a code of ``pipeline.columns.CODES``."""
        policy = self._policy
        try:
            target = self._checked(url)
        except (BlockedAddressError, ValueError):
            return None, "blocked_address"
        attempt = await self._attempt(target)
        for number in range(policy.max_attempts - 1):
            if not attempt.again or attempt.wait_s > policy.max_wait_s:
                break
            backoff = policy.backoff_s * 2**number * random.uniform(0.5, 1.0)
            await asyncio.sleep(min(policy.max_wait_s, max(attempt.wait_s, backoff)))
            attempt = await self._attempt(target)
        return attempt.content, attempt.problem

    def _checked(self, text: str) -> URL:
        """The URL, of a scheme, a port and, where its host is an address, an address that are allowed."""
        # As it is written where that is possible: quoting anew would break signed URLs.
        written = text.isascii() and not any(char <= " " or char == "\x7f" for char in text)
        url = URL(text, encoded=written)
        if url.scheme not in ("http", "https") or not url.host:
            raise BlockedAddressError("not http or https")
        usual = self._policy.ports is None or url.port in self._policy.ports
        if not usual and not self._policy.allow_private:
            raise BlockedAddressError(f"port {url.port} may not be used")
        if _is_address(url.host) and not may_dial(url.host, self._policy.allow_private, usual):
            raise BlockedAddressError("not a public address, or not one of its ports")
        return url

    async def _attempt(self, url: URL) -> Attempt:
        """One try, through redirects."""
        left_s = self._policy.timeout_s
        clock = asyncio.get_running_loop().time
        for _ in range(self._policy.max_redirects + 1):
            async with self._turn(url):
                start = clock()
                try:
                    async with asyncio.timeout(left_s):
                        answer = await self._request(url)
                except TimeoutError:
                    return Attempt(problem="timeout", again=True)
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    return _failure(error)
                left_s -= clock() - start
            if isinstance(answer, Attempt):
                return answer
            url = answer
        return Attempt(problem="http_error")

    @asynccontextmanager
    async def _turn(self, url: URL) -> AsyncIterator[None]:
        """A slot at the URL's host, when it is polite to ask, and then one of all slots.

        In this order, so that those who wait for a slow host keep no slot from others.
        """
        clock = asyncio.get_running_loop().time
        host = self._host(url)
        host.users += 1
        try:
            async with host.slots:
                while (wait := host.next_start - clock()) > 0:
                    await asyncio.sleep(wait)
                host.next_start = clock() + self._policy.delay_per_host_s
                async with self._slots:
                    yield
        finally:
            host.users -= 1

    def _host(self, url: URL) -> Host:
        if len(self._hosts) >= MAX_HOSTS:
            now = asyncio.get_running_loop().time()
            self._hosts = {key: host for key, host in self._hosts.items() if host.users or host.next_start > now}
        slots = asyncio.Semaphore(self._policy.connections_per_host)
        return self._hosts.setdefault((url.host or "", url.port or 0), Host(slots))

    async def _request(self, url: URL) -> Attempt | URL:
        """One request: how it ended, or where it is redirected to."""
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status in REDIRECTS:
                return self._redirected(url, response.headers.get("Location"))
            if response.status == 200:
                return await self._read(response)
            if response.status in GONE:
                return Attempt(problem="not_found")
            wait_s = _retry_after_s(response.headers.get("Retry-After"))
            host = self._host(url)
            host.next_start = max(host.next_start, asyncio.get_running_loop().time() + self._bounded(wait_s))
            return Attempt(problem="http_error", again=response.status in PASSING, wait_s=wait_s)

    def _bounded(self, wait_s: float) -> float:
        return min(wait_s, self._policy.max_wait_s)

    def _redirected(self, url: URL, location: str | None) -> Attempt | URL:
        if location is None:
            return Attempt(problem="http_error")
        target = url.join(URL(location))
        if target.name.startswith(UNAVAILABLE):
            return Attempt(problem="not_found")
        return self._checked(str(target))

    async def _read(self, response: aiohttp.ClientResponse) -> Attempt:
        """The body, as long as it is no larger than allowed; what the server says of its length is only a hint."""
        most = self._policy.max_bytes
        if (response.content_length or 0) > most:
            return Attempt(problem="too_large")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > most:
                return Attempt(problem="too_large")
        return _unpacked(bytes(body), response.headers.get("Content-Encoding", "identity").lower(), most)


def _is_address(host: str) -> bool:
    """Whether a host is written as an address, which no resolver will see; 127.1 and 0x7f000001 are names to it."""
    return ":" in host or host.replace(".", "").isdigit()


def _failure(error: Exception) -> Attempt:
    """What an exception means: blocked, of no use to try again (no such name, a certificate), or passing."""
    cause = error.__cause__ or error
    if isinstance(error, aiohttp.ClientSSLError):  # first: a certificate's error is a ValueError too
        return Attempt(problem="fetch_failed")
    if isinstance(cause, BlockedAddressError) or isinstance(error, aiohttp.InvalidURL | ValueError):
        return Attempt(problem="blocked_address")
    unknown = isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN
    return Attempt(problem="fetch_failed", again=not unknown)


def _unpacked(body: bytes, encoding: str, most: int) -> Attempt:
    """A body that a server compressed though it was asked not to."""
    if encoding in ("", "identity"):
        return Attempt(content=body)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return Attempt(problem="http_error")
    inflate = zlib.decompressobj(32 + zlib.MAX_WBITS)  # gzip or zlib, by its header
    try:
        content = inflate.decompress(body, most + 1)
    except zlib.error:
        return Attempt(problem="fetch_failed", again=True)
    if len(content) > most:
        return Attempt(problem="too_large")
    return Attempt(content=content) if inflate.eof else Attempt(problem="fetch_failed", again=True)


def _retry_after_s(header: str | None) -> float:
    """Seconds that a server asks to wait, 0 where it does not say (RFC 9110, 10.2.3: a number or a date)."""
    if header is None:
        return 0.0
    if header.strip().isdigit():
        return float(header)
    try:
        then = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.UTC)
    return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())
