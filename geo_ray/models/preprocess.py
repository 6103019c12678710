"""From image bytes to pixels, and the constants that training and inference share."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

# Radford et al. (2021), openai/CLIP clip.py; every CLIP-like tower uses them, and so do our own.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO", "JPEG2000")
MAX_BYTES = 256 * 2**20


class ImageProblem(Exception):
    """Why an image can't be decoded; ``code`` is one of ``pipeline.columns.CODES``."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def decode_image(content: bytes, size: int, max_pixels: int) -> UInt8[np.ndarray, "size size 3"]:
    """The image's first frame as an upright RGB square: shorter side to ``size`` (bicubic), then the centre.

    JPEG is scaled down while decoding where it is much larger. EXIF rotation is respected, alpha is laid on white, 16-bit
    grey keeps its upper byte. Raises ``ImageProblem``; metadata other than the rotation is never looked at.
    """
    if not content:
        raise ImageProblem("empty")
    if len(content) > MAX_BYTES:
        raise ImageProblem("too_large")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise ImageProblem("too_large")
                return np.asarray(_square(image, size))
    except Image.DecompressionBombError as error:
        raise ImageProblem("too_large") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError) as error:
        # Pillow's plug-ins raise all of these on damaged files: python-pillow/Pillow#5015 and its kin.
        raise ImageProblem("undecodable") from error


def _square(image: Image.Image, size: int) -> Image.Image:
    image.draft("RGB", (size * 2, size * 2))  # libjpeg's scaled inverse transform; a no-op for other formats
    upright = ImageOps.exif_transpose(_rgb(image))
    width, height = upright.size
    scale = size / min(width, height)
    side = size / scale
    left, top = (width - side) / 2, (height - side) / 2
    return upright.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _rgb(image: Image.Image) -> Image.Image:
    """RGB with the EXIF block kept, so that the rotation can still be applied."""
    exif = image.getexif()
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        top = 65535.0 if image.mode != "F" and values.max(initial=0) > 255 else 255.0
        converted = Image.fromarray((values.clip(0, top) * (255 / top)).astype(np.uint8)).convert("RGB")
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        converted = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        converted = image.convert("RGB")
    converted.info.clear()
    converted.getexif().update(exif)
    return converted
