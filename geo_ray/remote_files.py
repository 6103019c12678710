"""Files at any address through fsspec: names are taken as they are, and one place says what an error means.

Libraries behind fsspec raise what they like: gcsfs its HttpError, adlfs Azure's, ``hf://`` httpx's, s3fs botocore's,
and any of them a TypeError from its depths. What is an error of theirs, and which of these another try may mend, is
decided here alone.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import fsspec
import pyarrow as pa
from botocore.exceptions import BotoCoreError

from geo_ray.errors import GeoRayError

NUM_TRIES = 3  # libraries try again by themselves, but not after every error
CHECK = "check the address and your credentials"
PAUSE_S = 0.2  # before the second try, twice that before the third
ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError)
FOREIGN = (OSError, ValueError, ImportError, BotoCoreError, pa.ArrowException)  # never a bug of ours
PASSING_STATUSES = frozenset({408, 409, 425, 429})  # and all of 5xx
PASSING_CODES = ("slowdown", "throttl", "timeout", "internalerror", "unavailable", "toomanyrequests")
FINAL_CODES = ("notfound", "nosuch", "accessdenied", "forbidden", "unauthorized", "invalidaccesskey", "credential",
               "signaturedoesnotmatch", "authentication", "permission")  # fmt: skip

Answer = TypeVar("Answer")


class Verdict(Enum):
    """What becomes of an error: another try may mend it, none will, or it is a mistake in our own code."""

    PASSING = "passing"
    FINAL = "final"
    BUG = "bug"


def judge(error: BaseException) -> Verdict:
    """What an error that came up while a remote file was asked for means.

    A bug is what our own code raised itself, or what isn't an ordinary exception. Final is what says that there is
    nothing, or nothing for us: by its class, an HTTP status (also of what it was raised from) or a service's code.
    """
    if isinstance(error, GeoRayError | MemoryError) or not isinstance(error, Exception):
        return Verdict.BUG
    if not isinstance(error, FOREIGN) and _is_ours(error.__traceback__):
        return Verdict.BUG
    if isinstance(error, ABSENT):
        return Verdict.FINAL
    for one in _chain(error):
        if (found := _by_code(one)) is not None:
            return found
    return Verdict.PASSING


def _is_ours(trace: TracebackType | None) -> bool:
    """Whether the innermost frame of a traceback is one of this package's."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return str(module).partition(".")[0] == "geo_ray"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _by_code(error: BaseException) -> Verdict | None:
    """What the service's code or the HTTP status of an error says, None where it has neither."""
    response = getattr(error, "response", None)
    answer = response if isinstance(response, dict) else {}
    code = str(answer.get("Error", {}).get("Code", "")) or type(error).__name__
    name = code.replace("_", "").casefold()
    if any(part in name for part in PASSING_CODES):
        return Verdict.PASSING
    if any(part in name for part in FINAL_CODES):
        return Verdict.FINAL
    statuses = (
        answer.get("ResponseMetadata", {}).get("HTTPStatusCode"), getattr(response, "status_code", None),
        *(getattr(error, field, None) for field in ("status_code", "status", "code")),
    )  # fmt: skip
    for status in statuses:
        if isinstance(status, int | str) and str(status).isdecimal() and 400 <= int(status) < 600:
            passing = int(status) >= 500 or int(status) in PASSING_STATUSES
            return Verdict.PASSING if passing else Verdict.FINAL
    return None


def again(act: Callable[[], Answer], num_tries: int = NUM_TRIES, pause_s: float = PAUSE_S) -> Answer:
    """What ``act`` answers; errors that may pass are waited for, and the last one raised as it is."""
    for number in range(num_tries - 1):
        try:
            return act()
        except Exception as error:
            if judge(error) is not Verdict.PASSING:
                raise
            time.sleep(pause_s * 2**number)
    return act()


@contextmanager
def remote_errors(named: Callable[[Exception], GeoRayError]) -> Iterator[None]:
    """Errors of files and of the libraries that reach them, raised as the one of ours that ``named`` makes of them."""
    try:
        yield
    except Exception as error:
        if judge(error) is Verdict.BUG:
            raise
        raise named(error) from error


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path or URI, which keeps no listings, and the path within it.

    The name is taken as it is: ``::`` chains nothing, and wildcards are letters.
    """
    if (path := local_path(uri)) is not None:
        return fsspec.filesystem("file"), fsspec.get_filesystem_class("file")._strip_protocol(path)
    kind = fsspec.get_filesystem_class(uri.partition("://")[0])
    fs = fsspec.filesystem(uri.partition("://")[0], **kind._get_kwargs_from_urls(uri), use_listings_cache=False)
    return fs, str(kind._strip_protocol(uri))


def absolute(uri: str) -> str:
    """The same place with its whole path, where it is on this machine: other processes work in other folders."""
    path = local_path(uri)
    return uri if path is None else os.path.abspath(path)


def local_path(uri: str) -> str | None:
    """The path of a local file, or None for what lies elsewhere; of a ``file://`` URI as it is or with its %-codes."""
    if "://" not in uri:
        return uri
    if not uri.lower().startswith("file://"):
        return None
    return uri[7:] if os.path.lexists(uri[7:]) else os.fsdecode(unquote_to_bytes(uri[7:]))


def open_file(uri: str, compression: str | None = None, **settings: Any) -> Any:
    """A file to read, to be entered; with ``compression`` "infer" unpacked by what its name ends with.

    ``settings`` are those of the file system's ``open``.
    """
    fs, path = filesystem(uri)
    packed = fsspec.core.get_compression(path, compression)
    return fsspec.core.OpenFile(fs, path, compression=packed) if packed else fs.open(path, "rb", **settings)


def is_url(uri: str) -> bool:
    """Whether a text is the address of a web server's file."""
    return uri[:8].lower().startswith(("http://", "https://"))


def redacted(uri: str) -> str:
    """A URI without what may be secret, for messages: no user, password, query or fragment."""
    if "://" not in uri:
        return uri
    scheme, rest = uri.split("://", 1)
    host, slash, path = rest.split("?", 1)[0].split("#", 1)[0].partition("/")
    return f"{scheme}://{host.rsplit('@', 1)[-1]}{slash}{path}"


def reason(error: Exception, uri: str) -> str:
    """What an error says, in one line; only its kind where it may repeat what is secret in the URI."""
    return " ".join(str(error).split()) if redacted(uri) == uri else type(error).__name__
