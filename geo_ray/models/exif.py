"""Where a photo says that it was taken: the GPS directory of its EXIF (CIPA DC-008, 4.6.6).

These are true positions of people's photos: nothing here logs them or puts them into a message.
"""

import logging
import math
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from PIL import ExifTags, Image

from geo_ray.models.image_files import DAMAGE
from geo_ray.models.picture import open_picture
from geo_ray.models.position_traces import position_traces

MAX_DEGREES = {"N": 90.0, "S": 90.0, "E": 180.0, "W": 180.0}


def looks_located(content: bytes | None) -> bool:
    """Whether anything in a photo looks like the position it was taken at: for decisions that spare such photos."""
    return content is not None and (bool(position_traces(content)) or gps_position(content) is not None)


def gps_position(content: bytes | None) -> tuple[float, float] | None:
    """Latitude and longitude in degrees that an image's EXIF gives, or None; nothing is decoded for it.

    None too where they are (0, 0), as cameras without a fix write, out of range, without a hemisphere or damaged:
    never raises.
    """
    if not content:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _position(_gps_tags(content))
    except (*DAMAGE, Image.DecompressionBombError, MemoryError):
        return None


@lru_cache(maxsize=1)
def _hush() -> None:
    """Keep Pillow from logging every tag with its value, as it does at the level DEBUG."""
    logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.INFO)


def _gps_tags(content: bytes) -> Mapping[int, Any]:
    _hush()
    with open_picture(content).image as image:
        # Pillow's own getexif of a PNG decodes the pixels to see whether EXIF comes after them.
        return Image.Image.getexif(image).get_ifd(ExifTags.IFD.GPSInfo)


def _position(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    latitude = _degrees(tags.get(ExifTags.GPS.GPSLatitude), tags.get(ExifTags.GPS.GPSLatitudeRef), "NS")
    longitude = _degrees(tags.get(ExifTags.GPS.GPSLongitude), tags.get(ExifTags.GPS.GPSLongitudeRef), "EW")
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None
    return latitude, longitude


def _degrees(parts: Any, hemisphere: Any, known: str) -> float | None:
    """Degrees, minutes and seconds (or the first, or first two) as signed degrees; None where they are none."""
    letter = hemisphere.decode("latin-1") if isinstance(hemisphere, bytes) else str(hemisphere or "")
    letter = letter.strip(" \0")[:1].upper()
    values = [float(part) for part in (parts if isinstance(parts, tuple) else (parts,))]  # NaN for n/0
    if letter not in known or not letter or not 1 <= len(values) <= 3:
        return None
    if not all(math.isfinite(value) and value >= 0 for value in values) or any(value > 60 for value in values[1:]):
        return None
    degrees = sum(value / unit for value, unit in zip(values, (1, 60, 3600), strict=False))
    if degrees > MAX_DEGREES[letter]:
        return None
    return -degrees if letter in "SW" else degrees
