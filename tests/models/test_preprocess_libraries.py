"""Pixels as transformers and open_clip make them, to the bit."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from geo_ray.models.preprocess import ImageProblem, decode_image
from geo_ray.pipeline.columns import CODES
from tests.models.pictures import (
    INVERSE,
    NO_PHOTOS,
    ORIENTATION,
    PHOTOS,
    SAMPLES,
    difference,
    encoded,
    noise,
    plain,
    real_photos,
)

MAX_PIXELS = 10**7
RED, GREEN, BLUE, WHITE = (220, 30, 40), (20, 200, 60), (30, 50, 210), (255, 255, 255)


def library_pixels(image: Image.Image, size: int, library: str) -> np.ndarray:
    """What the library's own code makes of an upright RGB image, in levels of 0 to 255."""
    if library == "transformers":
        pytest.importorskip("transformers")
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        process = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
        found = process(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        return found.transpose(1, 2, 0)
    import open_clip

    transform = open_clip.image_transform(size, is_train=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return transform(image).permute(1, 2, 0).numpy() * 255


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
class TestLibraries:
    @pytest.mark.parametrize("size", [32, 37, 224])
    @pytest.mark.parametrize(("width", "height"), [(640, 480), (481, 641), (50, 40), (33, 300), (224, 225), (227, 224)])
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_their_pixels(self, library, size, width, height, kind):
        content = encoded(noise(width, height), kind)
        with Image.open(io.BytesIO(content)) as image:
            expected = library_pixels(image.convert("RGB"), size, library)
        pixels = decode_image(content, size, 10**7, library)
        np.testing.assert_allclose(pixels, expected, atol=1e-3)

    @pytest.mark.parametrize("number", range(1, 9))
    def test_upright_first(self, library, number):
        """As the picture is seen; the crop of 35 left over is not symmetric."""
        upright = noise(96, 61)
        stored = upright.transpose(INVERSE[number]) if number in INVERSE else upright
        exif = Image.Exif()
        exif[ORIENTATION] = number
        pixels = decode_image(encoded(stored, "PNG", exif=exif), 61, 10**7, library)
        np.testing.assert_allclose(pixels, library_pixels(upright, 61, library), atol=1e-3)

    @pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
    def test_every_mode_of_pixels(self, library, mode):
        if mode == "I;16":
            image = Image.fromarray(np.asarray(noise(80, 60).convert("L")).astype(np.uint16) * 257)
        else:
            image = noise(80, 60).convert("RGBA" if mode == "LA" else mode).convert(mode)
        kind = "TIFF" if mode == "CMYK" else "PNG"
        rgb = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if mode == "I;16" else image
        pixels = decode_image(encoded(image, kind), 32, 10**7, library)
        np.testing.assert_allclose(pixels, library_pixels(rgb.convert("RGB"), 32, library), atol=1e-3)

    def test_transparency_is_white(self, library):
        image = Image.new("RGBA", (64, 64), (*GREEN, 0))
        assert difference(decode_image(encoded(image, "PNG"), 32, 10**7, library), np.array(WHITE)) == 0

    def test_one_pixel(self, library):
        assert difference(decode_image(encoded(plain(GREEN, 1, 1), "PNG"), 32, 10**7, library), np.array(GREEN)) == 0

    def test_a_strip_is_too_large_when_scaled(self, library):
        """10,000 x 1 pixels become 320,000 x 32."""
        strip = encoded(plain(BLUE, 10_000, 1), "PNG")
        assert difference(decode_image(strip, 32, 320_000 * 32, library), np.array(BLUE)) == 0
        for content in (strip, encoded(plain(BLUE, 1, 10_000), "PNG")):
            with pytest.raises(ImageProblem) as raised:
                decode_image(content, 32, 320_000 * 32 - 1, library)
            assert raised.value.code == "too_large"

    @pytest.mark.parametrize("content", SAMPLES)
    def test_damage(self, library, content):
        for damaged in (content[: len(content) // 2], content[:20], b"nothing"):
            try:
                assert decode_image(damaged, 16, 10**6, library).shape == (16, 16, 3)
            except ImageProblem as problem:
                assert problem.code in CODES  # noqa: PT017 (any other exception fails the test)

    @pytest.mark.skipif(not PHOTOS.is_dir(), reason=NO_PHOTOS)
    @pytest.mark.parametrize("size", [224, 336])
    def test_real_photos(self, library, size):
        photos = real_photos()
        assert len(photos) >= 50
        for path in photos:
            with Image.open(path) as image:
                expected = library_pixels(ImageOps.exif_transpose(image).convert("RGB"), size, library)
            pixels = decode_image(path.read_bytes(), size, 10**8, library)
            np.testing.assert_allclose(pixels, expected, atol=1e-3, err_msg=path.name)


def test_the_libraries_differ_where_a_half_is_rounded():
    """71 left over: transformers starts at 35, torchvision at 36, halves going to even."""
    content = encoded(noise(103, 32), "PNG")
    whole = np.asarray(noise(103, 32))
    np.testing.assert_array_equal(decode_image(content, 32, 10**7, "transformers"), whole[:, 35:67])
    np.testing.assert_array_equal(decode_image(content, 32, 10**7, "open_clip"), whole[:, 36:68])
    content = encoded(noise(101, 32), "PNG")  # 69: 34 and 34
    np.testing.assert_array_equal(
        decode_image(content, 32, 10**7, "transformers"), decode_image(content, 32, 10**7, "open_clip")
    )
