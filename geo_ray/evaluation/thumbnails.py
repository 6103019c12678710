"""Small pictures of the images, for a file that opens offline."""

import base64
import io
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from geo_ray.models.preprocess import MAX_BYTES, ImageProblem, decode_image

SIDE = 240  # pixels: sharp enough on dense screens, about 10 kB as JPEG
QUALITY = 72
MAX_PIXELS = 100_000_000  # as a bundle's default


def find_image(uri: str, image_id: str, images: Path | None) -> Path | None:
    """The local file of an image: under ``images`` by its id or its name, or else where ``uri`` says; None if nowhere.

    Nothing is fetched. An id that leads out of ``images`` is not followed.
    """
    local = _local_path(uri)
    candidates = [] if images is None else [(images, image_id), (images, uri.rsplit("/", 1)[-1])]
    for root, name in candidates:
        path = _file(root.resolve() / name) if name else None
        if path is not None and path.is_relative_to(root.resolve()):
            return path
    return _file(Path(local)) if local else None


def _file(path: Path) -> Path | None:
    """The path without detours if it is a file; a name can also be one that no file system takes."""
    try:
        resolved = path.resolve()
        return resolved if resolved.is_file() else None
    except (OSError, ValueError):
        return None


def thumbnail(path: Path) -> str | None:
    """The image as the model sees it, square, in a ``data:`` URI without any metadata; None if it can't be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        pixels = decode_image(path.read_bytes(), SIDE, MAX_PIXELS)
    except (ImageProblem, OSError):
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)  # of pixels alone: no EXIF, comment or profile
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _local_path(uri: str) -> str:
    """The path that a URI without a scheme or with ``file://`` names; empty for any other."""
    if uri.startswith("file://"):
        return unquote(urlsplit(uri).path)
    return "" if "://" in uri else uri
