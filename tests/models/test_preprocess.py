import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geo_ray.models.preprocess import FORMATS, UPRIGHT, ImageProblem, decode_image
from geo_ray.pipeline.columns import CODES
from tests.models.pictures import (
    INVERSE,
    NO_PHOTOS,
    ORIENTATION,
    PHOTOS,
    SAMPLES,
    difference,
    encoded,
    plain,
    png_header,
    real_photos,
    scene,
)

SIZE = 32
MAX_PIXELS = 10**7
RED, GREEN, BLUE, WHITE = (220, 30, 40), (20, 200, 60), (30, 50, 210), (255, 255, 255)


def decode(content: bytes, size: int = SIZE, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    return decode_image(content, size, max_pixels)


def problem_of(content: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(ImageProblem) as raised:
        decode(content, max_pixels=max_pixels)
    assert raised.value.code in CODES
    return raised.value.code


def reference(image: Image.Image, size: int = SIZE) -> np.ndarray:
    """The centre square of an upright RGB image by one resize, at full resolution."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))


class TestRefused:
    def test_no_bytes(self):
        assert problem_of(b"") == "empty"

    @pytest.mark.parametrize(
        "content", [b"not a picture\n" * 50, b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\0"]
    )
    def test_no_image(self, content):
        assert problem_of(content) == "undecodable"

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_truncated(self, kind, share):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
        content = encoded(noise, kind)
        assert decode(content).shape == (SIZE, SIZE, 3)
        assert problem_of(content[: int(len(content) * share)]) == "undecodable"

    def test_bomb_is_refused_by_its_header(self):
        # Decoding it would take 14 GB.
        assert problem_of(png_header(60_000, 60_000), max_pixels=10**8) == "too_large"

    def test_bound_is_the_callers(self):
        content = encoded(plain(RED, 100, 50), "PNG")
        assert difference(decode(content, max_pixels=5000), np.array(RED)) == 0
        assert problem_of(content, max_pixels=4999) == "too_large"

    def test_a_jpeg_is_measured_as_it_is_decoded(self):
        """800 pixels are decoded to 100; ten times as many as allowed cost too much time."""
        content = encoded(plain(RED, 800, 800), "JPEG")
        assert difference(decode(content, max_pixels=64_000), np.array(RED)) <= 4
        assert problem_of(content, max_pixels=63_999) == "too_large"
        assert problem_of(encoded(plain(RED, 100, 100), "JPEG"), max_pixels=2499) == "too_large"  # decoded to 50

    def test_of_a_progressive_jpeg_all_is_held(self):
        content = encoded(plain(RED, 800, 800), "JPEG", progressive=True)  # 1.5 samples of 2 bytes a pixel
        assert difference(decode(content, max_pixels=480_000), np.array(RED)) <= 4
        assert problem_of(content, max_pixels=479_999) == "too_large"

    def test_a_jpeg_that_is_not_scaled_while_decoding(self):
        with pytest.raises(ImageProblem, match="too_large"):
            decode_image(encoded(plain(RED, 800, 800), "JPEG"), SIZE, 639_999, "transformers")

    def test_pillows_own_limit_is_none(self, monkeypatch):
        """It is one for the whole process, and about bombs; a caller may allow more."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        for kind in ("JPEG", "PNG", "BMP"):
            assert difference(decode(encoded(plain(RED, 200, 200), kind)), np.array(RED)) <= 4

    def test_formats_outside_the_list(self):
        content = encoded(plain(RED), "PPM")
        assert "PPM" not in FORMATS
        assert problem_of(content) == "undecodable"


class TestColours:
    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "JPEG2000"])
    @pytest.mark.parametrize("colour", [RED, GREEN, BLUE])
    def test_lossless(self, kind, colour):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert difference(decode(encoded(plain(colour), kind, **options)), np.array(colour)) == 0

    @pytest.mark.parametrize("colour", [RED, GREEN, BLUE, WHITE])
    def test_cmyk_jpeg(self, colour):
        # Pillow writes what Adobe does: inverted, with the APP14 marker.
        content = encoded(plain(colour).convert("CMYK"), "JPEG", quality=98)
        assert b"Adobe" in content
        assert difference(decode(content), np.array(colour)) <= 4

    def test_grey_jpeg_has_three_equal_channels(self):
        pixels = decode(encoded(scene(64, 64).convert("L"), "JPEG", quality=95))
        assert (pixels[..., 0] == pixels[..., 1]).all()
        assert (pixels[..., 0] == pixels[..., 2]).all()
        assert difference(pixels, reference(scene(64, 64).convert("L").convert("RGB"))) <= 6

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_16_bit_grey(self, kind):
        values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
        pixels = decode(encoded(Image.fromarray(values), kind))
        eight_bit = Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
        assert difference(pixels, reference(eight_bit)) == 0
        assert pixels.min() < 10
        assert pixels.max() > 245

    def test_16_bit_grey_that_is_dark_stays_dark(self):
        values = np.full((40, 40), 300, np.uint16)
        assert difference(decode(encoded(Image.fromarray(values), "PNG")), np.full(3, 1)) == 0

    def test_16_bit_grey_of_the_other_byte_order(self):
        values = np.full((40, 40), 0x8012, ">u2")
        big_endian = Image.frombytes("I;16B", (40, 40), values.tobytes())
        assert difference(decode(encoded(big_endian, "TIFF")), np.full(3, 0x80)) == 0

    @pytest.mark.parametrize(
        ("value", "dtype", "expected"),
        [(0.5, np.float32, 127), (128.0, np.float32, 128), (32896.0, np.float32, 128), (200, np.int32, 200),
         (-5, np.int32, 0), (32896, np.int32, 128), (10**6, np.int32, 255), (np.nan, np.float32, 0),
         (np.inf, np.float32, 255)],
    )  # fmt: skip
    def test_32_bit_tiff(self, value, dtype, expected):
        content = encoded(Image.fromarray(np.full((40, 40), value, dtype)), "TIFF")
        assert difference(decode(content), np.full(3, expected)) == 0

    def test_two_colours(self):
        image = Image.fromarray(np.repeat([[0, 255]], 48, axis=0).repeat(24, axis=1).astype(np.uint8)).convert("1")
        pixels = decode(encoded(image, "PNG"))
        assert difference(pixels[:, :12], np.zeros(3)) <= 1
        assert difference(pixels[:, 20:], np.array(WHITE)) <= 1


class TestAlpha:
    """What is transparent is white."""

    @staticmethod
    def half(mode: str) -> Image.Image:
        """Left half opaque, right half transparent."""
        image = plain((100, 100, 100), 64, 64).convert(mode)
        alpha = np.zeros((64, 64), np.uint8)
        alpha[:, :32] = 255
        image.putalpha(Image.fromarray(alpha))
        return image

    @staticmethod
    def check(pixels: np.ndarray, opaque: tuple[int, int, int]) -> None:
        assert difference(pixels[:, :12], np.array(opaque)) <= 1
        assert difference(pixels[:, 20:], np.array(WHITE)) <= 1

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_alpha_channel(self, mode, kind):
        self.check(decode(encoded(self.half(mode), kind)), (100, 100, 100))

    def test_half_transparent(self):
        image = Image.new("LA", (40, 40), (0, 128))
        assert difference(decode(encoded(image, "PNG")), np.full(3, 127)) <= 1

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_palette_with_a_transparent_colour(self, kind):
        image = Image.new("P", (64, 64), 0)
        image.putpalette([*RED, *GREEN])
        image.paste(1, (32, 0, 64, 64))
        self.check(decode(encoded(image, kind, transparency=1)), RED)

    def test_one_transparent_grey(self):
        image = Image.new("L", (64, 64), 50)
        image.paste(90, (32, 0, 64, 64))
        self.check(decode(encoded(image, "PNG", transparency=90)), (50, 50, 50))

    def test_colours_under_transparency_do_not_bleed(self):
        image = Image.new("RGBA", (64, 64), (*GREEN, 0))
        image.paste((*WHITE, 255), (0, 0, 32, 64))
        assert difference(decode(encoded(image, "PNG")), np.array(WHITE)) <= 1


class TestShape:
    def test_first_frame_of_an_animation(self):
        for kind in ("GIF", "WEBP", "TIFF"):
            options = {"lossless": True} if kind == "WEBP" else {}
            content = encoded(plain(RED), kind, save_all=True, append_images=[plain(GREEN), plain(BLUE)], **options)
            assert difference(decode(content), np.array(RED)) == 0

    def test_one_pixel(self):
        assert difference(decode(encoded(plain(GREEN, 1, 1), "PNG")), np.array(GREEN)) == 0
        assert difference(decode(encoded(plain(GREEN, 1, 1), "JPEG")), np.array(GREEN)) <= 4

    @pytest.mark.parametrize(("width", "height"), [(5000, 1), (1, 5000), (4000, 3), (3, 4000), (1000, 40), (40, 1000)])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_very_wide_and_very_narrow(self, width, height, kind):
        assert difference(decode(encoded(plain(BLUE, width, height), kind)), np.array(BLUE)) <= 4

    @pytest.mark.parametrize(("width", "height"), [(90, 30), (30, 90), (301, 100), (100, 301)])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_centre_square(self, width, height, kind):
        """Red sides, a blue centre square: all that is seen is blue."""
        image = plain(RED, width, height)
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image.paste(BLUE, (left, top, left + side + 1, top + side + 1))
        pixels = decode(encoded(image, kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {})))
        assert difference(pixels[4:-4, 4:-4], np.array(BLUE)) <= 12
        middle = pixels.astype(int)
        assert (
            difference(middle, middle[::-1, ::-1]) <= 60
        )  # as much of the red on either side, give or take the half pixel

    @pytest.mark.parametrize("size", [32, 64, 100, 224])
    @pytest.mark.parametrize(
        ("width", "height"), [(640, 480), (481, 641), (1023, 777), (225, 225), (224, 300), (50, 40)]
    )
    def test_scaled_decoding_is_close_to_full_decoding(self, width, height, size):
        image = scene(width, height)
        content = encoded(image, "JPEG", quality=95)
        with Image.open(io.BytesIO(content)) as full:
            expected = reference(full.convert("RGB"), size).astype(int)
        pixels = decode(content, size).astype(int)
        assert np.abs(pixels - expected).mean() < 1.5
        # A smooth scene shows a shift: half a pixel of the answer would be 255 / size / 2 levels everywhere.
        assert np.abs((pixels - expected).mean(axis=(0, 1))).max() < 0.5

    def test_detail_survives_scaled_decoding(self):
        """The scaled image is never smaller than what is asked for: stripes of 2 pixels of the answer stay stripes."""
        stripes = np.repeat(np.tile([0, 255], 56), 4).astype(np.uint8)  # 448 wide, stripes of 4
        image = Image.fromarray(np.tile(stripes, (448, 1))).convert("RGB")
        pixels = decode(encoded(image, "JPEG", quality=95), 224).astype(int)
        assert np.abs(np.diff(pixels[..., 0], axis=1)).max() > 200


class TestOrientation:
    @pytest.mark.parametrize("number", range(1, 9))
    @pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 1), ("WEBP", 1), ("TIFF", 1), ("JPEG", 8)])
    def test_rotated_as_the_camera_was_held(self, number, kind, tolerance):
        upright = scene(96, 64)
        stored = upright.transpose(INVERSE[number]) if number in INVERSE else upright
        exif = Image.Exif()
        exif[ORIENTATION] = number
        options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        pixels = decode(encoded(stored, kind, exif=exif, **options))
        assert difference(pixels, reference(upright)) <= tolerance
        for other in UPRIGHT.values():  # the scene has no symmetry: any other turn is far off
            assert difference(np.asarray(Image.fromarray(pixels).transpose(other)), reference(upright)) > 50

    @pytest.mark.parametrize("number", range(1, 9))
    def test_scaled_jpeg_of_odd_size(self, number):
        """Padding of the scaled image lies at the stored right and bottom, wherever that is when upright."""
        upright = scene(643, 489)
        stored = upright.transpose(INVERSE[number]) if number in INVERSE else upright
        exif = Image.Exif()
        exif[ORIENTATION] = number
        pixels = decode(encoded(stored, "JPEG", quality=98, subsampling=0, exif=exif), 64)
        assert np.abs(pixels.astype(int) - reference(upright, 64)).mean() < 1.0

    @pytest.mark.parametrize("number", [0, 9, 77, 60000])
    def test_no_such_orientation(self, number):
        exif = Image.Exif()
        exif[ORIENTATION] = number
        upright = scene(64, 64)
        assert difference(decode(encoded(upright, "PNG", exif=exif)), reference(upright)) == 0

    @pytest.mark.parametrize(
        "exif", [b"Exif\0\0", b"Exif\0\0garbage garbage", b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff", b"junk"]
    )
    def test_unreadable_exif_is_as_none(self, exif):
        upright = scene(64, 64)
        content = encoded(upright, "JPEG", quality=98, exif=exif)
        assert (decode(content) == decode(encoded(upright, "JPEG", quality=98))).all()


class TestDamage:
    """Whatever the bytes: pixels or an ``ImageProblem``; any other exception fails the test."""

    @staticmethod
    def check(content: bytes) -> None:
        code = None
        try:
            pixels = decode_image(content, 16, 10**6)
        except ImageProblem as problem:
            code = problem.code
        assert code in CODES or (pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8)

    @pytest.mark.parametrize("content", SAMPLES)
    def test_samples_are_good(self, content):
        assert decode(content).shape == (SIZE, SIZE, 3)

    @given(st.binary(max_size=300))
    @settings(max_examples=200, deadline=None)
    def test_random_bytes(self, content):
        self.check(content)

    @given(st.sampled_from(SAMPLES), st.data())
    @settings(max_examples=300, deadline=None)
    def test_corrupted_files(self, content, data):
        damaged = bytearray(content)
        positions = st.one_of(st.integers(0, min(len(content), 200) - 1), st.integers(0, len(content) - 1))
        for position, value in data.draw(st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=8)):
            damaged[position] = value
        end = data.draw(st.one_of(st.just(len(damaged)), positions))
        self.check(bytes(damaged[:end]))

    def test_a_tiff_whose_strip_offset_is_no_integer(self):
        """Pillow raises a TypeError."""
        content = encoded(scene(40, 30), "TIFF")
        entry = content.index(struct.pack("<HH", 273, 4))  # StripOffsets as LONG; now UNDEFINED, that is: bytes
        damaged = content[:entry] + struct.pack("<HH", 273, 7) + content[entry + 4 :]
        assert problem_of(damaged) == "undecodable"


def test_other_preprocessing_is_refused():
    with pytest.raises(ValueError, match="preprocessing='timm' is not known; have fast, transformers, open_clip"):
        decode_image(b"", 32, 10**7, "timm")


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=NO_PHOTOS)
def test_real_photos():
    photos = real_photos()
    assert len(photos) >= 50
    flat = [path.name for path in photos if decode_image(path.read_bytes(), 64, 10**8).std() < 3]
    assert flat == []


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_photos_of_phones_are_read(kind):
    """HEIC comes through pillow-heif, AVIF through Pillow; both lose a little."""
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    gradient = np.tile(np.linspace(20, 230, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    buffer = io.BytesIO()
    Image.fromarray(gradient).save(buffer, kind, quality=95)
    decoded = decode_image(buffer.getvalue(), 64, 10_000)
    assert np.abs(decoded.astype(int) - gradient).mean() < 4
    with pytest.raises(ImageProblem, match="undecodable"):
        decode_image(buffer.getvalue()[: len(buffer.getvalue()) // 2], 64, 10_000)
