"""Positions in EXIF: what counts as one, in each format, and that damage is none."""

import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from geo_ray.models.exif import gps_position
from tests.gps_photos import FORMATS, PARIS, PARIS_TAGS, gps_exif, photo, plain, rational


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_gives_its_position(image_format):
    assert gps_position(photo(image_format)) == pytest.approx(PARIS, abs=1e-9)
    assert gps_position(plain(image_format)) is None


def test_gif_and_bmp_have_no_exif():
    assert gps_position(plain("GIF")) is None
    assert gps_position(plain("BMP")) is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({1: "S"}, (-PARIS[0], PARIS[1])),
        ({3: "W"}, (PARIS[0], -PARIS[1])),
        ({1: "s", 3: "West"}, (-PARIS[0], -PARIS[1])),
        ({2: (90.0, 0.0, 0.0), 4: (180.0, 0.0, 0.0)}, (90, 180)),
        ({2: (0.0, 0.0, 0.0)}, (0, PARIS[1])),  # on the equator
        ({4: (0.0, 0.0, 0.0)}, (PARIS[0], 0)),  # in Greenwich
        ({2: (48.0, 51.5, 0.0)}, PARIS),  # minutes with decimals
        ({2: (48.858333333, 0.0, 0.0)}, PARIS),
        ({2: 48.858333333}, PARIS),  # one number in place of three
        ({2: (48.0, 51.5)}, PARIS),
    ],
)
def test_by_hand(more, expected):
    assert gps_position(photo(tags=PARIS_TAGS | more)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "more",
    [
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
        {2: (91.0, 0.0, 0.0)},
        {2: (90.0, 0.0, 1.0)},
        {4: (180.0, 0.0, 0.1)},
        {2: (48.0, 99.0, 0.0)},
        {2: (48.0, 51.0, 3000.0)},
        {2: (rational(48, 1), rational(51, 1), rational(30, 0))},
        {2: (rational(0, 0), rational(0, 0), rational(0, 0))},
        {2: (rational(48, 0), rational(51, 1), rational(30, 1))},
        {1: "X"},
        {1: ""},
        {3: "N"},  # a hemisphere of the other axis
    ],
)
def test_what_is_no_position(more):
    assert gps_position(photo(tags=PARIS_TAGS | more)) is None


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_half_a_position_is_none(missing):
    assert gps_position(photo(tags={tag: value for tag, value in PARIS_TAGS.items() if tag != missing})) is None


def test_a_directory_of_other_tags_is_none():
    assert gps_position(photo(tags={29: "2024:01:01"})) is None


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf"])
def test_what_is_no_image(content):
    assert gps_position(content) is None


def png_with_late_exif():
    """A PNG whose EXIF comes after its pixels, as the specification allows."""
    content, exif = plain("PNG"), gps_exif().removeprefix(b"Exif\0\0")
    end = content.rindex(b"IEND") - 4
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    return content[:end] + chunk + content[end:]


def test_a_png_may_have_its_exif_after_the_pixels():
    assert gps_position(png_with_late_exif()) == pytest.approx(PARIS, abs=1e-9)


def test_other_damage_is_not_in_its_way():
    png, jpeg = bytearray(png_with_late_exif()), photo()
    png[29] ^= 1  # a checksum, but of the header: not even an image
    assert gps_position(bytes(png)) is None
    content = png_with_late_exif()
    odd = struct.pack(">I", 1) + b"gAMA" + b"x" + bytes(4)
    assert gps_position(content[:33] + odd + content[33:]) == pytest.approx(PARIS, abs=1e-9)
    assert gps_position(jpeg[:2] + b"\xff\xe2\0\x0eICC_PROFILE\0" + jpeg[2:]) == pytest.approx(PARIS, abs=1e-9)


@pytest.mark.parametrize("image_format", FORMATS)
def test_no_pixels_are_decoded(image_format, monkeypatch):
    """Pillow's own ``getexif`` of a PNG unpacks it all to see whether EXIF comes at its end."""
    contents = plain(image_format), photo(image_format)
    for kind in Image.Image.__subclasses__() + ImageFile.ImageFile.__subclasses__():
        monkeypatch.setattr(kind, "load", lambda self: pytest.fail("decoded"))
    assert [gps_position(content) is None for content in contents] == [True, False]


@pytest.mark.parametrize("image_format", FORMATS)
def test_damage_never_raises(image_format):
    """Warnings would fail the test too."""
    rng, whole = np.random.default_rng(0), photo(image_format)
    start = max(0, whole.find(b"Camera") - 100)
    for _ in range(300):
        content = bytearray(whole)
        for at in rng.integers(start, min(len(content), start + 300), rng.integers(1, 6)):
            content[at] = rng.integers(256)
        cut = len(content) if rng.random() < 0.7 else int(rng.integers(len(content)))
        found = gps_position(bytes(content[:cut]))
        assert found is None or (abs(found[0]) <= 90 and abs(found[1]) <= 180)


def test_nothing_of_it_is_logged(caplog):
    contents = [photo(image_format) for image_format in FORMATS]  # writing logs the tags
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        assert all(gps_position(content) is not None for content in contents)
    assert "GPSLatitude" not in caplog.text
    assert "GPSLongitude" not in caplog.text
