import base64
import io

import numpy as np
import pytest
from PIL import Image

from geo_ray.evaluation.thumbnails import SIDE, find_image, thumbnail


@pytest.fixture
def photo(tmp_path):
    """A JPEG, red on the left, with a GPS position and a comment."""
    pixels = np.zeros((90, 160, 3), np.uint8)
    pixels[:, :80, 0] = 255
    exif = Image.Exif()
    exif[0x010E] = "secret description"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 24.0)
    path = tmp_path / "images" / "sub" / "photo one.jpg"
    path.parent.mkdir(parents=True)
    Image.fromarray(pixels).save(path, exif=exif, comment=b"secret comment")
    return path


def test_thumbnail_is_a_small_picture_without_metadata(photo):
    assert b"secret" in photo.read_bytes()
    data = base64.b64decode(thumbnail(photo).removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (SIDE, SIDE)
        assert not image.getexif()
        assert "comment" not in image.info
        left, right = image.getpixel((10, 120)), image.getpixel((230, 120))
    assert left[0] > 200 > right[0]
    assert b"secret" not in data
    assert b"Exif" not in data


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 cut off"])
def test_unreadable_images_have_none(tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    assert thumbnail(path) is None
    assert thumbnail(tmp_path / "missing.jpg") is None
    assert thumbnail(tmp_path) is None


def test_images_are_found_by_uri_by_id_and_by_name(photo, tmp_path):
    images = tmp_path / "images"
    assert find_image(str(photo), "x", None) == photo
    assert find_image(photo.as_uri(), "x", None) == photo  # with the blank as %20
    assert find_image("/gone/elsewhere.jpg", "sub/photo one.jpg", images) == photo
    assert find_image("s3://bucket/photo one.jpg", "sub/photo one.jpg", images) == photo
    assert find_image("s3://bucket/photo one.jpg", "x", photo.parent) == photo


def test_nothing_is_fetched_and_no_id_leads_out_of_the_folder(photo, tmp_path):
    for uri in ("https://example.org/a.jpg", "s3://bucket/a.jpg", "", "\0"):
        assert find_image(uri, "x", None) is None
    assert find_image("", "../sub/photo one.jpg", tmp_path / "images" / "sub") == photo
    assert find_image("", "../sub/photo one.jpg", tmp_path / "images") is None
    assert find_image("", str(photo), tmp_path / "other") is None
    assert find_image("", "\0", tmp_path / "images") is None
    assert find_image("/" + "x" * 5000, "y" * 5000, tmp_path / "images") is None
