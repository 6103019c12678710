"""What is not pixels is never in their way, and what is missing at the end is told from what is cut."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from geo_ray.models.preprocess import ImageProblem, decode_image
from tests.models.pictures import ORIENTATION, difference, encoded, noise, scene

SIZE = 32
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:Description tiff:Orientation="1"/></x:xmpmeta>'
ROTATED = Image.Exif()
ROTATED[ORIENTATION] = 6


def decode(content: bytes) -> np.ndarray:
    return decode_image(content, SIZE, 10**7)


def problem_of(content: bytes) -> str:
    with pytest.raises(ImageProblem) as raised:
        decode(content)
    return raised.value.code


def png_chunk(kind: bytes, body: bytes, crc: int = 0) -> bytes:
    """A chunk whose checksum is right, or off by ``crc``."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ crc)


def png_with(*chunks: bytes) -> bytes:
    content = encoded(scene(96, 64), "PNG")
    return content[:33] + b"".join(chunks) + content[33:]


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    """A segment of a JPEG, as long as it says or not."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2 if length is None else length) + body


def jpeg_with(*segments: bytes, **options) -> bytes:
    content = encoded(scene(96, 64), "JPEG", quality=95, **options)
    return content[:2] + b"".join(segments) + content[2:]


class TestPng:
    @pytest.mark.parametrize(
        "kind",
        [b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"eXIf", b"tIME", b"bKGD", b"hIST",
         b"sBIT", b"sPLT", b"cICP", b"acTL", b"fcTL", b"fdAT", b"vpAg", b"ruSt"],
    )  # fmt: skip
    @pytest.mark.parametrize("body", [b"", b"\0", b"garbage \xff\xfe" * 3])
    @pytest.mark.parametrize("crc", [0, 1])
    def test_other_chunks(self, kind, body, crc):
        plain = decode(png_with())
        content = png_with(png_chunk(kind, body, crc))
        assert (decode(content) == plain).all()
        late = content[:-12] + png_chunk(kind, body, crc) + content[-12:]
        assert (decode(late) == plain).all()

    @pytest.mark.parametrize("size", [2 * 2**20, 70 * 2**20])
    def test_texts_and_profiles_beyond_pillows_limits(self, size):
        packed = zlib.compress(bytes(size), 1)
        chunks = [png_chunk(b"zTXt", b"key\0\0" + packed), png_chunk(b"iTXt", b"key\0\1\0\0\0" + packed),
                  png_chunk(b"iCCP", b"key\0\0" + packed)]  # fmt: skip
        assert (decode(png_with(*chunks)) == decode(png_with())).all()

    def test_a_chunk_that_is_longer_or_shorter_than_it_says(self):
        for size in (5, 2000, 2**31):
            chunk = struct.pack(">I", size) + b"tEXt" + b"key\0some words" + b"\0\0\0\0"
            assert (decode(png_with(chunk)) == decode(png_with())).all()

    def test_a_checksum_of_the_pixels(self):
        """That of the packed data in them decides."""
        content = bytearray(png_with())
        content[-13] ^= 1  # the last byte before IEND
        assert (decode(bytes(content)) == decode(png_with())).all()
        content[len(content) // 2] ^= 1
        assert problem_of(bytes(content)) == "undecodable"

    def test_a_checksum_of_the_size(self):
        content = bytearray(png_with())
        content[32] ^= 1
        assert problem_of(bytes(content)) == "undecodable"

    @pytest.mark.parametrize("missing", [1, 4, 11, 12, 13, 16, 20])
    def test_without_an_end(self, missing):
        """The last 20 bytes are IEND and two checksums."""
        assert (decode(png_with()[:-missing]) == decode(png_with())).all()

    def test_without_pixels_at_the_end(self):
        assert problem_of(encoded(noise(96, 64), "PNG")[:-200]) == "undecodable"

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_one_transparent_grey(self, depth):
        """Right half transparent, whatever the depth that it is stored in."""
        value, bits = 1, np.zeros((64, 64 * depth), bool)
        bits[:, 32 * depth + depth - 1 :: depth] = True
        rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
        content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, depth, 0, 0, 0, 0))
        content += png_chunk(b"tRNS", struct.pack(">H", value)) + png_chunk(b"IDAT", zlib.compress(rows))
        pixels = decode(content + png_chunk(b"IEND", b""))
        assert difference(pixels[:, :12], np.zeros(3)) == 0
        assert difference(pixels[:, 20:], np.full(3, 255)) == 0


class TestJpeg:
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
    @pytest.mark.parametrize("missing", [1, 2, 3, 4])
    def test_without_an_end(self, options, missing):
        content = jpeg_with(**options)
        assert np.abs(decode(content[:-missing]).astype(int) - decode(content)).mean() < 2

    def test_as_djpeg_shows_it(self):
        """Decoding of the whole file with an end, grey where nothing came."""
        content = encoded(noise(320, 240), "JPEG")[:-600]
        with Image.open(io.BytesIO(content + b"\xff\xd9")) as image:
            image.draft("RGB", (SIZE, SIZE))
            shown = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(10, 0, 70, 60))
        assert difference(decode(content), np.asarray(shown)) == 0

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.95])
    def test_really_cut(self, options, share):
        content = encoded(noise(320, 640), "JPEG", **options)
        assert problem_of(content[: int(len(content) * share)]) == "undecodable"

    def test_a_progressive_one_without_its_last_scan(self):
        content = encoded(noise(96, 64), "JPEG", progressive=True)
        assert problem_of(content[: content.rindex(b"\xff\xda")]) == "undecodable"
        assert problem_of(content[: content.rindex(b"\xff\xda") + 6]) == "undecodable"

    @pytest.mark.parametrize("behind", [b"\0" * 100, b"garbage \xff\xd8\xff\xff\xd9", encoded(noise(20, 20), "JPEG")])
    @pytest.mark.parametrize("missing", [0, 2])
    def test_more_behind_the_end(self, behind, missing):
        """Such as the further pictures of an MPF file."""
        content = jpeg_with()
        pixels = decode(content[: len(content) - missing] + behind)
        assert np.abs(pixels.astype(int) - decode(content)).mean() < 2

    @pytest.mark.parametrize(
        "odd",
        [segment(0xE0, b"JFIF\0"), segment(0xE0, b"JFIF\0\1"), segment(0xE1, b"Exif\0\0II*"),
         segment(0xE1, b"Exif\0\0"),
         segment(0xE1, b"http://ns.adobe.com/xap/1.0/"), segment(0xE2, b"ICC_PROFILE\0"), segment(0xE2, b"MPF\0"),
         segment(0xE2, b"ICC_PROFILE\0\1\5" + bytes(50)), segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + bytes(40)),
         segment(0xED, b"Photoshop 3.0\x008BIM\4"), segment(0xEE, b"Adobe"), segment(0xFE, b""), segment(0xE5, b""),
         b"some bytes", b"\xff\xff\xff\xff", b"\xff\x00\xff\x01", segment(0xE1, b"Exif\0\0" + b"x" * 40, 10),
         segment(0xE1, b"Exif\0\0" + b"x" * 40, 300), segment(0xE1, b"Exif\0\0" + b"x" * 40, 65535),
         segment(0xE1, b"Exif\0\0" + b"x" * 40, 0),
         segment(0xE1, b"Exif\0\0" + encoded(noise(16, 16), "JPEG"), 65535),
         segment(0xE1, b"Exif\0\0" + encoded(noise(16, 16), "JPEG"), 20)],
    )  # fmt: skip
    def test_damaged_segments(self, odd):
        assert (decode(jpeg_with(odd)) == decode(jpeg_with())).all()

    def test_cmyk_keeps_its_convention(self):
        """The Adobe segment decides pixels: Pillow writes inverted inks."""
        content = encoded(scene(96, 64).convert("CMYK"), "JPEG", quality=98)
        assert difference(decode(content), decode(encoded(scene(96, 64).convert("CMYK").convert("RGB"), "PNG"))) < 12

    def test_a_truncated_big_one_is_as_cheap(self):
        content = encoded(noise(800, 800), "JPEG")
        with pytest.raises(ImageProblem, match="too_large"):
            decode_image(content[:-2], SIZE, 63_999)
        assert decode_image(content[:-2], SIZE, 64_000).shape == (SIZE, SIZE, 3)


class TestOthers:
    @pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF"])
    @pytest.mark.parametrize("missing", [1, 2])
    def test_without_an_end(self, kind, missing):
        content = encoded(scene(96, 64), kind, **({"exif": ROTATED} if kind == "WEBP" else {}))
        assert difference(decode(content[:-missing]), decode(content)) <= 1

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "HEIF", "AVIF"])
    def test_more_behind_the_end(self, kind):
        content = encoded(scene(96, 64), kind)
        assert (decode(content + b"garbage" * 20) == decode(content)).all()

    @pytest.mark.parametrize("exif", [b"", b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
    def test_damaged_exif(self, exif):
        content = encoded(scene(96, 64), "WEBP", lossless=True, exif=b"Exif\0\0" + exif, xmp=b"<", icc_profile=b"x")
        assert (decode(content) == decode(encoded(scene(96, 64), "WEBP", lossless=True))).all()

    @pytest.mark.parametrize("tag", [270, 330, 700, 33723, 34377, 34665, 34675, 34853, 37500, 50000])
    @pytest.mark.parametrize("place", [0, 2**31])
    def test_damaged_tags_of_a_tiff(self, tag, place):
        """A description becomes another tag, whose value lies at the start of the file, or outside of it."""
        content = bytearray(encoded(scene(96, 64), "TIFF", tiffinfo={270: "some words of this length"}))
        at = content.index(struct.pack("<HH", 270, 2))
        content[at : at + 2] = struct.pack("<H", tag)
        content[at + 8 : at + 12] = struct.pack("<I", place)
        assert (decode(bytes(content)) == decode(encoded(scene(96, 64), "TIFF"))).all()

    def test_an_animation_is_its_first_frame(self):
        options = {"save_all": True, "append_images": [noise(96, 64)], "lossless": True}
        content = encoded(scene(96, 64), "WEBP", exif=ROTATED, **options)
        assert (decode(content) == decode(encoded(scene(96, 64), "WEBP", lossless=True, exif=ROTATED))).all()


class TestXmpOrientation:
    """Only EXIF's orientation turns a picture."""

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "PNG", "AVIF", "HEIF"])
    def test_xmp_turns_nothing(self, kind):
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        for options in ({}, {"exif": exif}):
            if kind == "PNG":
                chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
                content = png_with(chunk)
            elif kind == "TIFF":
                content = encoded(scene(96, 64), kind, tiffinfo={700: XMP})
            else:
                content = encoded(scene(96, 64), kind, xmp=XMP, **options)
            sixth = content.replace(b'tiff:Orientation="1"', b'tiff:Orientation="6"')  # writers turn by it, too
            assert sixth != content
            assert (decode(sixth) == decode(encoded(scene(96, 64), kind))).all()

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
    def test_exif_does(self, kind):
        turned = decode(encoded(scene(96, 64), kind, exif=ROTATED))
        assert difference(turned, np.rot90(decode(encoded(scene(96, 64), kind)), -1)) <= 8

    def test_exif_that_a_png_holds_as_text(self):
        exif = ROTATED.tobytes()
        text = f"\nexif\n{len(exif):8d}\n{exif.hex()}\n".encode()
        content = png_with(png_chunk(b"tEXt", b"Raw profile type exif\0" + text))
        assert (decode(content) == decode(encoded(scene(96, 64), "PNG", exif=ROTATED))).all()
