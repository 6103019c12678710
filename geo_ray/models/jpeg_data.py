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
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
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
    """The file's first picture: what decides its pixels (the scans begin at ``start``), and its EXIF."""

    content: bytes
    start: int
    exif: bytes
    frame: Frame
    components: bytes  # their numbers

    def ended(self) -> tuple[bytes, bytes]:
        """The picture of what data there are, with an end; and the same without the last of them.

        ``ValueError`` where whole scans are missing.
        """
        stop, scans = self._scans()
        if not _precise(self.components, [self.content[at:end] for at, end in scans]):
            raise ValueError("scans are missing")
        data = self.content[:stop].rstrip(b"\xff")
        return data + END, data[: max(scans[-1][1], len(data) - TAIL_BYTES)] + END

    def _scans(self) -> tuple[int, list[tuple[int, int]]]:
        """Where data and whole segments end, and start and end of each scan's header (but for marker and length)."""
        scans, at = list[tuple[int, int]](), self.start
        while found := MARKER.search(self.content, at):
            marker, at = found[1][0], found.end()
            if marker in (SOI, EOI):
                return found.start(), scans
            if marker not in TABLES and marker not in (SOS, DNL, COM) and not 0xE0 <= marker <= 0xEF:
                continue  # libjpeg knows better what to make of damaged data
            end = at + int.from_bytes(self.content[at : at + 2])
            if not at + 2 <= end <= len(self.content):
                return found.start(), scans
            if marker == SOS:
                scans.append((at + 2, end))
            at = end
        return len(self.content), scans


def jpeg_data(content: bytes) -> JpegData | None:
    """What decides a JPEG's pixels; None where nothing can be made of it.

    Segments of no concern to pixels are left out, whatever they hold. Where the length of one is wrong, what follows
    is looked for in it.
    """
    if not content.startswith(START):
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
        if marker in TABLES or marker in FRAMES or _tells_colours(marker, body):
            kept.append(content[start:end])
        elif marker == 0xE1 and body.startswith(EXIF):
            exif += body[len(EXIF) :] if exif else body
        elif marker == SOS and len(frame) >= 9:  # one component at least
            header, shape = b"".join(kept), _frame(frame, body)
            if shape is None:
                return None
            whole = b"".join((header, memoryview(content)[start:]))
            return JpegData(content=whole, start=len(header), exif=exif, frame=shape, components=frame[6::3])
    return None


def _tells_colours(marker: int, body: bytes) -> bool:
    """Whether a segment is one of the two that say what the components are, and as long as libjpeg wants it."""
    return (marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14) or (
        marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
    )


def _segments(content: bytes, trusting: bool) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment, up to the first scan's; a JPEG inside of another segment is stepped over.

    With ``trusting``, segments are as long as they say where a marker follows.
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
        if marker in TABLES or marker in FRAMES or (trusting and content[end : end + 1] == b"\xff"):
            at = end


def _frame(body: bytes, first_scan: bytes) -> Frame | None:
    height, width, count = struct.unpack_from(">HHB", body, 1)
    factors = tuple(divmod(body[at + 1], 16) for at in range(6, 6 + 3 * count, 3) if at + 1 < len(body))
    if len(factors) != count or not all(across and down for across, down in factors) or len(first_scan) < 4:
        return None
    return Frame(width=width, height=height, sampling=factors, held=first_scan[0] < count or _spectral(first_scan))


def _spectral(scan: bytes) -> bool:
    """Whether a scan has some coefficients or bits of them only: the file is progressive."""
    return scan[-3:] != b"\x00\x3f\x00"


def _precise(components: bytes, scans: list[bytes]) -> bool:
    """Whether the scans, the last one to its end, give every coefficient of every component to its last bit."""
    missing = {(component, number): True for component in components for number in range(64)}
    for scan in scans:
        first, last, low_bits = scan[-3], min(scan[-2], 63), scan[-1] & 15
        for component in scan[1:-3:2]:
            missing |= {(component, number): low_bits > 0 for number in range(first, last + 1)}
    return not any(missing.values())
