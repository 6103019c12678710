"""What files are: by their first bytes where one is named, by their suffixes where there are many."""

import zlib
from collections import Counter
from collections.abc import Iterable

import msgpack

from geo_ray.data.sources.listing import Found
from geo_ray.data.sources.manifests import is_table
from geo_ray.data.sources.reading import first_bytes
from geo_ray.errors import InputError
from geo_ray.remote_files import is_url, reason, redacted, remote_errors
from geo_ray.tables.encodings import FALLBACK, encoding_of
from geo_ray.tables.ids import SUFFIXES, is_image_name
from geo_ray.tables.text import PARQUET_ENDINGS

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ENDINGS = {"tar": TAR_ENDINGS, "zip": (".zip",), "parquet": PARQUET_ENDINGS, "msgpack": (".msg", ".msgpack")}
MAGIC = {b"PAR1": "parquet", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM",
               b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")  # fmt: skip
PACKED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
MAPS = tuple(bytes([first]) for first in (*range(0x80, 0x90), 0xDE, 0xDF))  # how a msgpack map begins
HEAD_BYTES, MAGIC_BYTES, TAR_BLOCK = 4096, 64, 512
# Of files that are often beside images, and of which some begin as images do, such as cameras' own formats.
NO_IMAGES = (".json", ".xml", ".xmp", ".aae", ".txt", ".log", ".md", ".html", ".htm", ".pdf", ".py", ".npy", ".npz",
             ".pt", ".cls", ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".3gp", ".mp3", ".wav", ".db", ".ini", ".lnk",
             ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw",
             ".raw", ".psd", ".svg", ".ico", ".eps", ".thm", ".tfw", ".hdr", ".prj")  # fmt: skip
STRAY = 0.01  # below this share of a folder's files, those of another kind do not count


def kind_by_name(name: str) -> str:
    """``image``, ``tar``, ``zip``, ``parquet``, ``msgpack``, ``table``, or an empty string for what is none of them."""
    if is_image_name(name):
        return "image"
    lower = name.lower()
    kinds = (kind for kind, endings in ENDINGS.items() if lower.endswith(endings))
    return next(kinds, "table" if is_table(lower) else "")


def kind_of_found(found: Found) -> str:
    """The kind of a file among others: by its name, or else whether it begins as an image does.

    A name tells enough where its suffix is that of an image, a container or a table, or of what surely is none. Beyond
    that, the first bytes of local files are read; those of objects are not, as that takes a request for each.
    """
    kind = kind_by_name(found.path)
    if kind or "://" in found.uri or found.path.casefold().endswith(NO_IMAGES):
        return kind
    try:
        return "image" if kind_of_bytes(first_bytes(found.uri, MAGIC_BYTES)) == "image" else ""
    except OSError:
        return ""


def kind_by_content(found: Found) -> str:
    """The kind of a file that was named outright.

    What has an image's suffix is taken for an image, and a URL for what its name says, or else for an image. Raises
    ``InputError`` where it is nothing that we read.
    """
    if is_image_name(found.path):
        return "image"
    if is_url(found.uri):
        return kind_by_name(found.path) or "image"
    with remote_errors(lambda why: InputError(f"{redacted(found.uri)!r} can't be read ({reason(why, found.uri)})")):
        head = first_bytes(found.uri, HEAD_BYTES)
    if kind := kind_of_bytes(head, found.path.lower()):
        return kind
    if (kind := kind_by_name(found.path)) in ENDINGS and head:
        return kind
    raise InputError(
        f"{redacted(found.uri)!r} is neither an image nor a container or table of images; known are "
        f"{', '.join(sorted(SUFFIXES))}, tar, zip, parquet and msgpack with images, and CSV, TSV, JSON lines, parquet "
        "or plain lists of paths or URLs"
    )


def kind_of_bytes(head: bytes, name: str = "") -> str:
    """The kind of a file by its first bytes, and by its name where it is compressed; empty where they say nothing."""
    if kind := MAGIC.get(head[:4]):
        return kind
    if head.startswith(IMAGE_MAGIC) or head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[257:262] == b"ustar" or _is_v7(head):
        return "tar"
    if head.startswith(PACKED_MAGIC):
        inner = zlib.decompressobj(31).decompress(head, HEAD_BYTES) if head[:2] == b"\x1f\x8b" else b""
        return "tar" if name.endswith(TAR_ENDINGS) or inner[257:262] == b"ustar" else "table"
    if _is_record(head) or (name.endswith(ENDINGS["msgpack"]) and head[:1] in MAPS):
        return "msgpack"
    return "table" if head and _is_text(head) else ""


def _is_v7(head: bytes) -> bool:
    """Whether bytes begin with a tar's header of the time before ustar: its checksum is right."""
    if len(head) < TAR_BLOCK or not head[0]:
        return False
    try:
        said = int(head[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return said == sum(head[:148]) + 8 * ord(" ") + sum(head[156:TAR_BLOCK])


def _is_record(head: bytes) -> bool:
    """Whether bytes begin with a msgpack map that has an ``image`` or an ``id`` among the keys that are seen."""
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(head)
    try:
        for _ in range(unpacker.read_map_header()):
            if unpacker.unpack() in (b"image", b"id"):
                return True
            unpacker.skip()
    except (msgpack.UnpackException, ValueError):
        pass
    return False


def _is_text(head: bytes) -> bool:
    """Whether bytes are a text in one of the encodings that spreadsheets write."""
    text = head.decode(encoding_of(head), FALLBACK if encoding_of(head).startswith("utf-8") else "replace")
    return not any(letter < " " and letter not in "\t\n\r\f" for letter in text)


def kind_of_many(text: str, found_kinds: Iterable[str], of_pattern: bool) -> str:
    """The kind of the files of a folder or a pattern, given those that there are; others are left out.

    Raises ``InputError`` where no kind or more than one could be meant. Parquet files beside tars describe them, as
    img2dataset's do, and tables beside images or containers do too.
    """
    counts = Counter(found_kinds)
    if counts["tar"] and counts["parquet"]:
        counts["table"] += counts.pop("parquet")
    kinds = [kind for kind in ("image", *ENDINGS) if counts[kind]]
    if not kinds and of_pattern and counts:
        return "table" if counts["table"] == counts.total() else "image"
    if not kinds:
        raise InputError(f"no images in {redacted(text)!r}: {_nothing(counts)}")
    first, *others = sorted(kinds, key=lambda kind: -counts[kind])
    if any(counts[other] >= STRAY * counts[first] for other in others):
        listed = " and ".join(f"{counts[kind]} {kind}" for kind in kinds)
        raise InputError(
            f"{redacted(text)!r} has {listed} files; name one kind with a pattern, such as {redacted(text).rstrip('/')}"
            f"/**/*.{'jpg' if first == 'image' else first}"
        )
    return first


def _nothing(counts: Counter[str]) -> str:
    if counts["table"]:
        return f"it has {counts['table']} tables; name the one that lists the images"
    return (
        f"name a folder, a file, a glob pattern or a URI with {', '.join(sorted(SUFFIXES))} files, a table of them, or "
        "tar, zip, parquet or msgpack files that hold them"
    )
