"""From image bytes to pixels, and the constants that training and inference share."""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from geo_ray.models.image_files import DAMAGE, FORMATS
from geo_ray.models.picture import Picture, open_picture
from geo_ray.models.tiff_layouts import BITS, WHITE_IS_ZERO

__all__ = ["BYTES_PER_PIXEL", "CLIP_MEAN", "CLIP_STD", "FORMATS", "MAX_BYTES", "ImageProblem", "decode_image"]

# Radford et al. (2021), openai/CLIP clip.py; every CLIP-like tower uses them, and so do our own.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# What an image may cost, beside ``max_pixels``. A JPEG that is scaled while decoding costs time, but not memory, for
# its pixels: it may have so many times as many.
MAX_BYTES = 256 * 2**20
MAX_TIMES_SCALED = 10
BYTES_PER_PIXEL = 4  # in Pillow

# What makes an image upright, by its EXIF orientation (CIPA DC-008, 4.6.5).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# How far into the scaled image each library starts its crop, of what is left over beside it: transformers
# image_transforms.py, center_crop; torchvision transforms/functional.py, center_crop, which rounds halves to even.
CROPS: dict[str, Callable[[int], int]] = {
    "transformers": lambda excess: excess // 2,
    "open_clip": lambda excess: round(excess / 2),
}


class ImageProblem(Exception):
    """Why an image can't be decoded; ``code`` is one of ``pipeline.columns.CODES``."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def decode_image(
    content: bytes, size: int, max_pixels: int, preprocessing: str = "fast"
) -> UInt8[np.ndarray, "size size 3"]:
    """The image's first frame as an upright RGB square: the centre of it, shorter side to ``size`` (bicubic).

    EXIF rotation is respected, alpha is laid on white, 16-bit grey keeps its upper byte. With ``fast``, JPEG is scaled
    down while decoding, to the smallest size that is no smaller than ``size``. ``transformers`` and ``open_clip`` make
    those libraries' pixels, bit for bit, of an upright RGB image: all of it is scaled, then cropped.

    ``max_pixels`` is what may be held at once: an image is ``too_large`` that has more, when decoded or when scaled. A
    JPEG that is scaled while decoding is measured as scaled, and may have ``MAX_TIMES_SCALED`` times as many; of a
    progressive one all coefficients are held, which count as the pixels that take as many bytes.

    Raises ``ImageProblem`` and, for an unknown ``preprocessing``, ``ValueError``; metadata other than the rotation is
    never looked at, and no damage to it matters.
    """
    if preprocessing != "fast" and preprocessing not in CROPS:
        raise ValueError(f"preprocessing={preprocessing!r} is not known; have fast, {', '.join(CROPS)}")
    if not content:
        raise ImageProblem("empty")
    if len(content) > MAX_BYTES:
        raise ImageProblem("too_large")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = open_picture(content)
            if preprocessing == "fast":
                return np.asarray(_square(picture, size, max_pixels))
            return np.asarray(_scaled_square(picture, size, max_pixels, CROPS[preprocessing]))
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageProblem("too_large") from error
    except DAMAGE as error:
        raise ImageProblem("undecodable") from error


def _square(picture: Picture, size: int, max_pixels: int) -> Image.Image:
    num_pixels = picture.image.width * picture.image.height
    drafted = picture.image.draft("RGB", (size, size))  # libjpeg's scaled inverse transform; None for other formats
    _check_size(picture, num_pixels, max_pixels)
    picture.load(size)
    image = picture.image
    # The scaled image is rounded up to whole pixels, padded at the right and below; the box is what the picture covers.
    width, height = drafted[1][2:] if drafted else image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = _smooth(image).resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    turn = UPRIGHT.get(picture.orientation())
    return _opaque(square if turn is None else square.transpose(turn))  # a centred square can be turned after the crop


def _scaled_square(picture: Picture, size: int, max_pixels: int, start: Callable[[int], int]) -> Image.Image:
    """The whole image turned upright, scaled and cropped; a crop before that would move the filter's rounding."""
    _check_size(picture, picture.image.width * picture.image.height, max_pixels)
    picture.load()
    turn = UPRIGHT.get(picture.orientation())
    whole = _opaque(_smooth(picture.image))
    whole = whole if turn is None else whole.transpose(turn)
    width, height = (int(size * side / min(whole.size)) for side in whole.size)  # the longer side is rounded down
    if width * height > max_pixels:
        raise ImageProblem("too_large")
    left, top = start(width - size), start(height - size)
    return whole.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


def _check_size(picture: Picture, num_pixels: int, max_pixels: int) -> None:
    """Raise ``ImageProblem`` for an image of so many pixels that can't be held as it is about to be decoded."""
    held = picture.image.width * picture.image.height
    if picture.jpeg is not None:
        held = max(held, min(num_pixels, picture.jpeg.frame.held_bytes // BYTES_PER_PIXEL))
    if held > max_pixels or num_pixels > MAX_TIMES_SCALED * max_pixels:
        raise ImageProblem("too_large")


def _smooth(image: Image.Image) -> Image.Image:
    """The image in a mode that is resized smoothly: L, LA, RGB or RGBA."""
    if image.mode.startswith(("I", "F")):
        return _grey(image)
    if "transparency" in image.info or image.mode in ("PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey from a deeper one; 32-bit values are on the scale of 1 (floats), 255 or 65535, the first that fits."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> image.info.get(BITS, 16) - 8).astype(np.uint8)
    else:
        values = np.nan_to_num(np.asarray(image, np.float32))
        scales = (1, 255, 65535) if image.mode == "F" else (255, 65535)
        top = next((scale for scale in scales if values.max() <= scale), scales[-1])
        grey = (values.clip(0, top) * (255 / top)).astype(np.uint8)
    if image.info.get(WHITE_IS_ZERO):
        grey = 255 - grey
    if "transparency" in image.info:  # one grey of a 16-bit PNG
        opaque = np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8)
        return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(opaque)))
    return Image.fromarray(grey)


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, with what is transparent laid on white."""
    if image.mode in ("LA", "RGBA"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
