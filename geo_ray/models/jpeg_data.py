"""What of a JPEG file decides its pixels, and whether all of it is there (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

START, END = b"\xff\xd8", b"\xff\xd9"
SOI, EOI, SOS, DNL, COM = 0xD8, 0xD9, 0xDA, 0xDC, 0xFE
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # but for the tables and the extension between them
TABLES = (0xC4, 0xCC, 0xDB, 0xDD)  # Huffman, arithmetic, quantization; restart interval
EXIF = b"Exif\0\0"
# In data, 0xFF stands before a zero where it is meant, and in the marks for restarting.
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
TAIL_BYTES = 256  # of the last scan: enough to change pixels wherever it ends


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Size in pixels, and of each component how often it is sampled across and down; ``held`` where scans share it."""

    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]
    held: bool

    @property
    def block_rows(self) -> int:
        """Rows of pixels that are coded together."""
        return 8 * max(down for _, down in self.sampling)

    @property
    def held_bytes(self) -> int:
        """What decoding holds of the whole image whatever the scale: 16 bits a coefficient, or nothing."""
        most = max(across for across, _ in self.sampling) * max(down for _, down in self.sampling)
        samples = self.width * self.height * sum(across * down for across, down in self.sampling) // most
        return 2 * samples if self.held else 0


@dataclass(frozen=True, kw_only=True)
class JpegData:
    """The file's first picture: the segments and scans that decide its pixels, its EXIF, and whether it has an end.

    ``scans`` are where the data of each scan begin in ``content``, ``precise`` whether they say all bits of all
    coefficients.
    """

    content: bytes
    exif: bytes
    frame: Frame
    scans: tuple[int, ...]
    ended: bool
    precise: bool

    @property
    def without_tail(self) -> bytes:
        """The same, but for the last data that are there."""
        end = len(self.content) - len(END)
        return self.content[: max(self.scans[-1], end - TAIL_BYTES)] + END


def jpeg_data(content: bytes) -> JpegData | None:
    """What decides a JPEG's pixels, ended where it has no end; None where nothing can be made of it.

    Segments of no concern to pixels are left out, whatever they hold. Where the length of one is wrong, what follows
    is looked for in it.
    """
    if not content.startswith(START + b"\xff"):
        return None
    for trusting in (True, False):
        found = _header(content, trusting)
        if found is not None:
            return found
    return None


def _header(content: bytes, trusting: bool) -> JpegData | None:
    kept, exif, frame = [START], b"", b""
    for marker, start, end in _segments(content, trusting):
        body = content[start + 4 : end]
        if marker in FRAMES and not frame:
            frame = body
        if marker in TABLES or marker in FRAMES or (marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14):
            kept.append(content[start:end])
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            kept.append(content[start:end])
        elif marker == 0xE1 and body.startswith(EXIF):
            exif += body[len(EXIF) :] if exif else body
        elif marker == SOS and len(frame) >= 9:
            return _picture(b"".join(kept), content, start, frame, exif)
    return None


def _segments(content: bytes, trusting: bool) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment, up to the first scan's; a JPEG inside of another segment is stepped over.

    With ``trusting``, segments are as long as they say.
    """
    at = len(START)
    while found := MARKER.search(content, at):
        marker, start = found[1][0], found.end() - 2
        at = found.end()
        if marker == SOI:
            nested = content.find(END, at)
            at = len(content) if nested < 0 else nested + len(END)
        if marker < 0xC0 or marker in (SOI, EOI) or at + 2 > len(content):
            continue
        end = at + int.from_bytes(content[at : at + 2])
        if end < at + 2 or end > len(content):
            continue
        yield marker, start, end
        if trusting or marker in TABLES or marker in FRAMES:
            at = end


def _picture(header: bytes, content: bytes, start: int, frame: bytes, exif: bytes) -> JpegData | None:
    """The picture whose first scan starts here."""
    scans, headers, at, ended = list[int](), list[bytes](), start, False
    stop = len(content)
    while found := MARKER.search(content, at):
        marker, at = found[1][0], found.end()
        if marker in (SOI, EOI):
            ended, stop = marker == EOI, at - 2
            break
        end = at + int.from_bytes(content[at : at + 2])
        if marker not in TABLES and marker not in (SOS, DNL, COM) and not 0xE0 <= marker <= 0xEF:
            continue  # libjpeg knows better what to make of damaged data
        if not at + 2 <= end <= len(content):
            stop = found.start()
            break
        if marker == SOS:
            headers.append(content[at + 2 : end])
            scans.append(end - start + len(header))
        at = end
    if not scans:
        return None
    shape = _frame(frame, headers[0])
    data = content[start:stop].rstrip(b"\xff") if not ended else content[start:stop]
    if shape is None or len(header) + len(data) < scans[-1]:
        return None
    return JpegData(
        content=header + data + END, exif=exif, frame=shape, scans=tuple(scans), ended=ended,
        precise=_precise(frame, headers),
    )  # fmt: skip


def _frame(body: bytes, first_scan: bytes) -> Frame | None:
    height, width, count = struct.unpack_from(">HHB", body, 1)
    factors = tuple(divmod(body[at + 1], 16) for at in range(6, 6 + 3 * count, 3) if at + 1 < len(body))
    if len(factors) != count or not all(across and down for across, down in factors) or not first_scan:
        return None
    return Frame(width=width, height=height, sampling=factors, held=first_scan[0] < count or _spectral(first_scan))


def _spectral(scan: bytes) -> bool:
    """Whether a scan has some coefficients or bits of them only: the file is progressive."""
    return scan[-3:] != b"\x00\x3f\x00"


def _precise(frame: bytes, scans: list[bytes]) -> bool:
    """Whether the scans, the last one to its end, give every coefficient of every component to its last bit."""
    low = {frame[at]: [1] * 64 for at in range(6, len(frame) - 2, 3)}
    for scan in scans:
        if len(scan) < 4:
            return False
        for at in range(1, len(scan) - 3, 2):
            for number in range(scan[-3], min(scan[-2], 63) + 1):
                low.setdefault(scan[at], [1] * 64)[number] = scan[-1] & 15
    return all(bits == 0 for component in low.values() for bits in component)
