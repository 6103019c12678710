"""Small pictures of the images, for a file that opens offline."""

import base64
import io
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from geo_ray.models.preprocess import MAX_BYTES, ImageProblem, decode_image

SIDE = 168  # pixels: crisp at 84 CSS pixels on a dense screen, 3 to 8 kB as JPEG
QUALITY = 72
MAX_PIXELS = 100_000_000  # as a bundle's default


def find_image(uri: str, image_id: str, images: Path | None) -> Path | None:
    """The local file of an image: under ``images`` by its id or its name, or else where ``uri`` says; None if nowhere.

    Nothing is fetched. An id that leads out of ``images`` is not followed.
    """
    if images is not None:
        root = images.resolve()
        for name in (image_id, Path(_local_path(uri) or "").name):
            path = (root / name).resolve()
            if name and path.is_relative_to(root) and path.is_file():
                return path
    local = _local_path(uri)
    return Path(local) if local and Path(local).is_file() else None


def thumbnail(path: Path) -> str | None:
    """The image as the model sees it, a square JPEG in a ``data:`` URI without any metadata; None if it can't be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        pixels = decode_image(path.read_bytes(), SIDE, MAX_PIXELS)
    except (ImageProblem, OSError):
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)  # of pixels alone: no EXIF, comment or profile
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _local_path(uri: str) -> str | None:
    """The path that a URI without a scheme or with ``file://`` names."""
    if "\0" in uri:
        return None
    if uri.startswith("file://"):
        return unquote(urlsplit(uri).path)
    return None if "://" in uri else uri
