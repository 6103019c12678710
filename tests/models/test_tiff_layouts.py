"""Of TIFF, right pixels or none, whatever the layout."""

import itertools

import numpy as np
import pytest
from PIL import Image

from geo_ray.models.preprocess import ImageProblem, decode_image
from tests.models.pictures import difference, encoded, scene
from tests.models.tiff_files import tiff

SIZE = 32
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
COLOURS = np.asarray(scene(80, 60))
GREY = np.asarray(scene(80, 60).convert("L"))
ORDERS, PACKED = ("<", ">"), (False, True)


def deep(values: np.ndarray, dtype: str) -> np.ndarray:
    """8-bit values over the whole range of a type; floats from 0 to 1."""
    if dtype.startswith("f"):
        return (values / 255).astype(dtype)
    kind = np.iinfo(dtype)
    scaled = values.astype(object) * ((2**kind.bits - 1) // 255) + int(kind.min)
    return scaled.astype(dtype)


def read(content: bytes) -> np.ndarray | None:
    """The pixels; None where there are none."""
    try:
        return decode_image(content, SIZE, 10**6)
    except ImageProblem as problem:
        assert problem.code == "undecodable"  # noqa: PT017 (any other exception fails the test)
        return None


def expected(values: np.ndarray) -> np.ndarray:
    image = Image.fromarray(values).convert("RGB")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(10, 0, 70, 60)))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_grey_is_right_or_refused(dtype, photometric):
    values = GREY if photometric == BLACK_IS_ZERO else 255 - GREY
    for order, packed, rows in itertools.product(ORDERS, PACKED, (16, 60)):
        found = read(tiff(deep(values, dtype), photometric, order=order, packed=packed, rows_per_strip=rows))
        assert found is None or difference(found, expected(GREY)) <= 2, (order, packed, rows)


@pytest.mark.parametrize("samples", ["RGB", "RGBA", "RGBX", "CMYK"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "f4"])
@pytest.mark.parametrize("planes", [1, 2])
def test_colours_are_right_or_refused(samples, dtype, planes):
    image = Image.fromarray(COLOURS).convert(samples.replace("X", "A"))
    photometric = SEPARATED if samples == "CMYK" else RGB
    more = {"RGBA": {338: (2,)}, "RGBX": {338: (0,)}}.get(samples)
    for order, packed, rows in itertools.product(ORDERS, PACKED, (16, 60)):
        content = tiff(deep(np.asarray(image), dtype), photometric, order=order, packed=packed, planes=planes,
                       rows_per_strip=rows, more=more)  # fmt: skip
        found = read(content)
        assert found is None or difference(found, expected(COLOURS)) <= 2, (order, packed, rows)


@pytest.mark.parametrize(
    ("values", "photometric", "order", "planes", "shown"),
    [(deep(255 - GREY, "u2"), WHITE_IS_ZERO, "<", 1, GREY), (deep(GREY, "u2"), BLACK_IS_ZERO, ">", 1, GREY),
     (deep(COLOURS, "u2"), RGB, "<", 2, COLOURS), (deep(COLOURS, "u2"), RGB, ">", 2, COLOURS),
     (deep(COLOURS, "u2"), RGB, ">", 1, COLOURS), (255 - GREY, WHITE_IS_ZERO, "<", 1, GREY),
     (COLOURS, RGB, "<", 2, COLOURS), (deep(GREY, "f4"), BLACK_IS_ZERO, ">", 1, GREY),
     (deep(255 - GREY, "f4"), WHITE_IS_ZERO, "<", 1, GREY), (GREY.astype("u4"), BLACK_IS_ZERO, "<", 1, GREY)],
)  # fmt: skip
def test_what_is_common_is_read(values, photometric, order, planes, shown):
    found = read(tiff(values, photometric, order=order, planes=planes))
    assert found is not None
    assert difference(found, expected(shown)) <= 2


def test_12_bits_are_scaled():
    nibbles = np.repeat(GREY[..., None] >> 4, 3, axis=2).reshape(60, -1)  # the same digit thrice: 12 bits of one value
    content = tiff((nibbles[:, ::2] << 4 | nibbles[:, 1::2]).astype(np.uint8), BLACK_IS_ZERO, bits=12)
    found = read(content)
    assert found is not None
    assert difference(found, expected((GREY >> 4) * 17)) <= 1


@pytest.mark.parametrize("sampling", [(2, 2), (2, 1), None])
def test_subsampled_colours_that_are_not_packed(sampling):
    """As many bytes as for whole colours, so that a reader that doesn't know better finds them all."""
    values = np.asarray(Image.fromarray(COLOURS).convert("YCbCr"))
    assert read(tiff(values, YCBCR, more={530: sampling} if sampling else None)) is None


def test_what_nobody_can_know():
    assert read(tiff(GREY, None)) is None
    assert read(tiff(deep(GREY, "i1"), BLACK_IS_ZERO)) is None
    assert read(tiff(np.asarray(scene(80, 60).convert("CMYK")), SEPARATED, more={332: (2,)})) is None


def test_a_palette():
    levels = tuple(range(256))
    right = tuple(257 * level for level in levels)
    found = read(tiff(GREY, PALETTE, more={320: right * 3}))
    assert found is not None
    assert difference(found, expected(GREY)) <= 1
    assert read(tiff(GREY, PALETTE, more={320: levels * 3})) is None  # on the scale of 8 bits: all of it would be black


def test_alpha_in_a_plane_of_its_own():
    values = np.stack([GREY, np.full_like(GREY, 255)], axis=-1)
    for packed in PACKED:
        found = read(tiff(values, BLACK_IS_ZERO, planes=2, packed=packed, more={338: (2,)}))
        assert found is None or difference(found, expected(GREY)) <= 1


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_jpeg_2000_with_deep_colours(bits):
    """Pillow can't write one: the depth of each component stands in the header, and nothing else is looked at."""
    content = bytearray(encoded(scene(80, 60), "JPEG2000", no_jp2=True))
    at = content.index(b"\xff\x4f\xff\x51") + 42
    assert content[at] == 7
    content[at : at + 9 : 3] = bytes([bits - 1] * 3)
    assert read(bytes(content)) is None
