"""An image file opened for its pixels: of what else it holds, only EXIF's orientation can turn them."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageChops, ImageFile, TiffImagePlugin

from geo_ray.models import png_data
from geo_ray.models.image_files import DAMAGE, open_image
from geo_ray.models.jpeg_data import Frame, JpegData, jpeg_data
from geo_ray.models.tiff_layouts import check_values, settle_layout, without_lost_tags
from geo_ray.models.webp_data import is_webp, webp_data

XMP_NAMES = ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp")
CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000: its start, and the marker of its sizes
MISSING_SHARE = 1 / 50  # of an image, at its end: as much may be grey, or black where nothing is packed


@dataclass(kw_only=True)
class Picture:
    """An opened image, and what is known of its data where it is a JPEG."""

    image: ImageFile.ImageFile
    jpeg: JpegData | None = None

    def load(self, side: int | None = None) -> None:
        """Decode; raises one of ``DAMAGE`` where pixels are missing, or would be wrong.

        A JPEG without an end is given one, as djpeg does, unless more is missing. ``side`` is what the image was
        drafted to.
        """
        try:
            self.image.load()
        except OSError:
            if self.jpeg is None:
                raise
            content, shorter = self.jpeg.ended()
            check_reach(content, shorter, self.jpeg.frame)
            self.image = _with_exif(open_image(content), self.jpeg.exif)
            if side is not None:
                self.image.draft("RGB", (side, side))
            self.image.load()
        check_values(self.image)

    def orientation(self) -> int:
        """EXIF orientation of the loaded image; see ``orientation_of``."""
        return orientation_of(self.image.getexif)


def orientation_of(read: Callable[[], Image.Exif]) -> int:
    """The orientation in the EXIF that this reads; 1, as stored, where there is none or it can't be read."""
    try:
        value = read().get(ExifTags.Base.Orientation)
    except DAMAGE:  # broken metadata beside good pixels are common in the wild
        return 1
    return value if isinstance(value, int) else 1


def open_picture(content: bytes) -> Picture:
    """The image file's first picture; raises one of ``DAMAGE`` where there is none.

    What doesn't decide pixels is left out first, so that no damage to it can be in their way: of PNG, JPEG and WebP
    all chunks or segments but the image's own.
    """
    jpeg = jpeg_data(content)
    if jpeg is not None:
        return Picture(image=_with_exif(open_image(jpeg.content), jpeg.exif), jpeg=jpeg)
    if content.startswith(png_data.START):
        return Picture(image=_with_exif(open_image(png_data.png_data(content)), png_data.png_exif(content)))
    if is_webp(content):
        pixels, exif = webp_data(content)
        return Picture(image=_with_exif(open_image(pixels), exif))
    image = open_image(without_lost_tags(content))
    for name in XMP_NAMES:  # its orientation is not the file's: Pillow turns by it, viewers don't
        image.info.pop(name, None)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        settle_layout(image)
    elif image.format == "JPEG2000":
        _check_depths(content, image.mode)
    if image.fp is not None and (image.format == "BMP" or image.info.get("compression") == "raw"):
        image.fp.seek(0, io.SEEK_END)
        image.fp.write(bytes(int(len(content) * MISSING_SHARE)))
    return Picture(image=image)


def _with_exif(image: ImageFile.ImageFile, exif: bytes) -> ImageFile.ImageFile:
    if exif:
        image.info["exif"] = exif
    return image


def check_reach(content: bytes, shorter: bytes, frame: Frame) -> None:
    """Raise ``ValueError`` where more than the last 2 % of a JPEG's rows lack data, in whole rows of blocks.

    How far its data reach is seen by leaving out the last of them: the lowest row that this changes.
    """
    images = open_image(content), open_image(shorter)
    if not frame.held:  # one scan: its mean colours show where it ends
        for image in images:
            image.draft("RGB", (1, 1))
    changed = ImageChops.difference(*images).getbbox(alpha_only=False)
    lowest = changed[3] * frame.height / images[0].height if changed else 0
    missing = frame.height - -(-lowest // frame.block_rows) * frame.block_rows
    if missing > frame.height * MISSING_SHARE:
        raise ValueError("data are missing")


def _check_depths(content: bytes, mode: str) -> None:
    """Raise ``ValueError`` for JPEG 2000 with more than 8 bits in colours: Pillow 13.0 turns white into black."""
    at = content.find(CODESTREAM)
    (count,) = struct.unpack_from(">H", content, at + 40)
    depths = [(content[at + 42 + 3 * number] & 0x7F) + 1 for number in range(count)]
    if max(depths) > (16 if mode == "I;16" else 8):
        raise ValueError("colours of more than 8 bits")
