"""Decoding by torchvision as on a GPU, beside decoding by Pillow. The device is a CPU here."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from geo_ray.errors import BundleError
from geo_ray.models import device_decode
from geo_ray.models.bundle import open_bundle
from geo_ray.models.device_decode import DeviceDecoder
from geo_ray.models.preprocess import decode_image
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.stage import Runtime
from tests.crops import jpeg_crops
from tests.models.pictures import ORIENTATION

SIZE = 64


def smooth(width, height, mode="RGB"):
    """A picture of slow colours, which scaling changes little."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    colours = np.stack([x, y, (x + 2 * y) / 3], axis=2) * 255
    return Image.fromarray(colours.astype(np.uint8)).convert(mode)


def jpeg(image, **settings):
    file = io.BytesIO()
    image.save(file, "JPEG", **({"quality": 95} | settings))
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return jpeg(smooth(200, 120), exif=exif)


def on_device(*contents, max_pixels=10**6, size=SIZE):
    return DeviceDecoder(size, max_pixels, "cpu")(contents)


@pytest.mark.parametrize("size", [(64, 64), (200, 120), (121, 333), (801, 600), (30, 20)])
def test_about_the_pixels_of_the_cpu(size):
    content = jpeg(smooth(*size))
    (square,) = on_device(content)
    assert square.dtype == np.uint8
    assert np.abs(square.astype(int) - decode_image(content, SIZE, 10**6)).mean() < 1.5


def test_images_of_one_size_together_are_as_each_alone():
    contents = [jpeg(smooth(*size)) for size in ((90, 70), (200, 100), (90, 70), (100, 200), (90, 70))]
    contents[2] = jpeg(smooth(90, 70).transpose(Image.Transpose.ROTATE_180))
    for square, content in zip(on_device(*contents), contents, strict=True):
        np.testing.assert_array_equal(square, on_device(content)[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_they_are_upright(orientation):
    content = turned(orientation)
    difference = on_device(content)[0].astype(int) - decode_image(content, SIZE, 10**6)
    assert np.abs(difference).mean() < 1.5


def test_an_orientation_that_cannot_be_read_is_none():
    content = turned(6).replace(b"MM\0*", b"MMxx")
    np.testing.assert_array_equal(on_device(content)[0], on_device(turned(1))[0])


def test_grey():
    (square,) = on_device(jpeg(smooth(100, 100, "L")))
    assert (square[..., 0] == square[..., 1]).all()


OTHERS = {
    "nothing": b"",
    "no image": b"no image",
    "png": Image.Image._repr_png_(smooth(50, 50)),
    "progressive": jpeg(smooth(100, 100), progressive=True),
    "cmyk": jpeg(smooth(100, 100).convert("CMYK")),
    "rgb": jpeg(smooth(100, 100), keep_rgb=True),
    "cut": jpeg(smooth(100, 100))[:-200],
    "large": jpeg(smooth(1100, 1000)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_left_to_the_cpu(kind):
    good = jpeg(smooth(100, 80))
    left, square = on_device(OTHERS[kind], good)
    assert left is None
    np.testing.assert_array_equal(square, on_device(good)[0])


@pytest.mark.parametrize(("side", "there"), [(320, True), (321, False)])
def test_what_is_scaled_by_more_than_a_gpu_can(side, there):
    (square,) = on_device(jpeg(smooth(side, side + 50)), size=8)
    assert (square is not None) == there


def test_no_memory_to_scale_in(monkeypatch):
    def no_memory(*arguments, **settings):
        raise torch.OutOfMemoryError

    decoder = DeviceDecoder(SIZE, 10**6, "cpu")
    monkeypatch.setattr(device_decode.functional, "interpolate", no_memory)
    assert decoder([jpeg(smooth(100, 80))]) == [None]


def test_one_that_the_device_refuses_costs_no_other(monkeypatch):
    contents = [jpeg(smooth(100, 80 + number)) for number in range(4)]
    real = device_decode.decode_jpeg
    sizes = []

    def decode_jpeg(files, **settings):
        sizes.append(len(files))
        if any(len(file) == len(contents[1]) for file in files):
            raise RuntimeError("corrupt")
        return real(files, **settings)

    expected = on_device(*contents)
    decoder = DeviceDecoder(SIZE, 10**6, "cpu")
    monkeypatch.setattr(device_decode, "decode_jpeg", decode_jpeg)
    found = decoder(contents)
    assert found[1] is None
    assert sizes == [4, 1, 1, 1, 1]
    for number in (0, 2, 3):
        np.testing.assert_array_equal(found[number], expected[number])


@pytest.mark.parametrize("max_pixels", [1, 20_000, 10**9])
def test_so_many_pixels_at_a_time(monkeypatch, max_pixels):
    contents = [jpeg(smooth(100, 80 + number)) for number in range(5)]
    expected, decoder = on_device(*contents), DeviceDecoder(SIZE, 10**6, "cpu")
    monkeypatch.setattr(device_decode, "MAX_PIXELS", max_pixels)
    for square, other in zip(decoder(contents), expected, strict=True):
        np.testing.assert_array_equal(square, other)


def test_a_device_that_cannot(monkeypatch):
    def decode_jpeg(files, **settings):
        raise RuntimeError("not compiled\nwith nvJPEG support")

    monkeypatch.setattr(device_decode, "decode_jpeg", decode_jpeg)
    with pytest.raises(BundleError, match=r"nvJPEG support.*use --decode cpu"):
        DeviceDecoder(SIZE, 10**6, "cpu")


def test_the_stage_decodes_what_it_can_there_and_the_rest_here():
    """Crops are no larger than the encoder's images, so that scaling is no matter."""
    decode, _ = graph_of(open_bundle("earth-tiny"), max_pixels=10**6).split_at_pixels()
    contents = np.array([*jpeg_crops(3), OTHERS["png"], b"no image", None, OTHERS["progressive"]], dtype=object)
    text = np.full(len(contents), "", dtype=object)
    batch = {"bytes": contents, "image_id": text, "uri": text, "problem": text.copy()}
    here, there = (decode.build(Runtime(decode_device=device))(batch) for device in (None, "cpu"))
    assert here["problem"].tolist() == there["problem"].tolist() == ["", "", "", "", "undecodable", "empty", ""]
    assert here["view_count"].tolist() == there["view_count"].tolist()
    np.testing.assert_array_equal(there["pixels"][3:], here["pixels"][3:])
    assert np.abs(there["pixels"].astype(int) - here["pixels"]).mean() < 2
