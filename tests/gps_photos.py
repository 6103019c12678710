"""Photos whose EXIF says where they were taken, as tests need them: right, odd and damaged."""

import io

from PIL import ExifTags, Image, TiffImagePlugin

from geo_ray.models.image_files import know_heif

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")
PARIS = (48 + 51 / 60 + 30 / 3600, 2 + 17 / 60 + 40.2 / 3600)
PARIS_TAGS = {1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.2)}


def gps_exif(tags=None):
    """An EXIF block whose GPS directory holds these tags."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera"
    exif[ExifTags.IFD.GPSInfo] = PARIS_TAGS if tags is None else tags
    return exif.tobytes()


def photo(image_format="JPEG", tags=None, image=None, exif=None):
    """An image file with a GPS directory of these tags, Paris unless others are given, or with this EXIF block."""
    know_heif()
    buffer = io.BytesIO()
    image = image or Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    image.save(buffer, image_format, exif=gps_exif(tags) if exif is None else exif)
    return buffer.getvalue()


def plain(image_format="JPEG", image=None):
    """An image file without EXIF."""
    know_heif()
    buffer = io.BytesIO()
    (image or Image.radial_gradient("L").resize((64, 48)).convert("RGB")).save(buffer, image_format)
    return buffer.getvalue()


def rational(numerator, denominator):
    """A rational as it stands in EXIF, which may have the denominator 0."""
    return TiffImagePlugin.IFDRational(numerator, denominator)
