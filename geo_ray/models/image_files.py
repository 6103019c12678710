"""Which image files are read, and how one is opened."""

import io
import struct
import zlib
from functools import lru_cache

from PIL import Image, ImageFile, UnidentifiedImageError

# Pillow's names (it opens MPO as JPEG) and what people call them: the one list, for documentation too.
FORMATS = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "WEBP": "WebP",
    "HEIF": "HEIC",
    "AVIF": "AVIF",
    "TIFF": "TIFF",
    "GIF": "GIF",
    "BMP": "BMP",
    "JPEG2000": "JPEG 2000",
}

# What Pillow's plug-ins raise on damaged files: OSError by contract, the others where a field holds what it should not;
# a TIFF offset that is no integer gives a TypeError, for one (found by fuzzing Pillow 13.0).
DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip


@lru_cache(maxsize=1)
def know_heif() -> None:
    """Teach Pillow to open HEIC and AVIF photos."""
    import pillow_heif  # 50 ms to import

    pillow_heif.register_heif_opener(thumbnails=False)


def open_image(content: bytes) -> ImageFile.ImageFile:
    """The image, opened but not decoded; raises one of ``DAMAGE`` where it is none of ``FORMATS``.

    As ``Image.open``, but without its limit of pixels, which is one for the whole process: callers have their own.
    """
    know_heif()
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if not accept or accept(content[:16]) is True:
            try:
                return factory(io.BytesIO(content), "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # not this format after all
                continue
    raise UnidentifiedImageError("none of the formats that are read")
