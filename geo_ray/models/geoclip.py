"""GeoCLIP (Vivanco Cepeda et al. 2023, arXiv 2309.16020): its two encoders beside CLIP, and its weights and gallery.

Shapes: B batch, G places, D image features, F frequencies.
"""

import math
import pickle
import struct
import zipfile
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import nn

from geo_ray.errors import InputError, MissingDataError
from geo_ray.geo.sphere import check_latlon

PACKAGE = "geoclip"
REMEDY = "pip install --no-deps geoclip==1.3.0"
LOCATION_ENCODER = "model/weights/location_encoder_weights.pth"
ADAPTER = "model/weights/image_encoder_mlp_weights.pth"
LOGIT_SCALE = "model/weights/logit_scale_weights.pth"
GALLERY = "model/gps_gallery/coordinates_100K.csv"
NUM_PLACES = 100_000  # of the package's gallery

SIGMAS = (2.0**0, 2.0**4, 2.0**8)  # of the Fourier frequencies: coarse, middle and fine (section 3.1)
NUM_FREQUENCIES = 256
HIDDEN = 1024
NUM_FEATURES = 512
# What a damaged or foreign file makes zipfile, pickle and torch raise.
READ_ERRORS = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
               struct.error, zlib.error, pickle.UnpicklingError, zipfile.BadZipFile)  # fmt: skip
CLIP_FEATURES = 768  # projected features of CLIP ViT-L/14

# Coefficients of the equal Earth projection: Savric, Patterson and Jenny (2018), doi 10.1080/13658816.2018.1504949.
EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)
# GeoCLIP's own scale of the plane (geoclip/model/location_encoder.py, SF / 180): the world is 2.0 wide and 0.97 high.
PLANE_SCALE = 66.50336


def equal_earth(latlon: Float[torch.Tensor, "B 2"]) -> Float[torch.Tensor, "B 2"]:
    """Degrees (latitude first) to x and y of the equal Earth projection, in GeoCLIP's scale.

    The order of the operations is part of the weights: they were trained in float32, and the finest frequencies make
    a phase of 4,000 radians of it, so the last digit of x shows in the features (1e-5).
    """
    a1, a2, a3, a4 = EQUAL_EARTH
    latitude, longitude = torch.deg2rad(latlon).unbind(dim=1)
    root = torch.tensor(3.0).sqrt()
    theta = torch.asin(root / 2 * latitude.sin())
    slope = 3 * (9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1)
    x = 2 * root * longitude * theta.cos() / slope
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return torch.stack([x, y], dim=1) * PLANE_SCALE / 180


class FourierFeatures(nn.Module):
    """Cosines and sines of random projections (Tancik et al. 2020, section 5), drawn from N(0, sigma^2)."""

    b: Float[torch.Tensor, "F 2"]

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.register_buffer("b", torch.randn(NUM_FREQUENCIES, 2) * sigma)

    def forward(self, xy: Float[torch.Tensor, "B 2"]) -> Float[torch.Tensor, "B 512"]:
        """Features of points of the plane."""
        phase = 2 * math.pi * xy @ self.b.T
        return torch.cat([phase.cos(), phase.sin()], dim=1)


class ScaleEncoder(nn.Module):
    """Features of points of the plane at one scale: Fourier features and an MLP."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.capsule = nn.Sequential(
            FourierFeatures(sigma),
            nn.Linear(2 * NUM_FREQUENCIES, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(HIDDEN, NUM_FEATURES))

    def forward(self, xy: Float[torch.Tensor, "B 2"]) -> Float[torch.Tensor, "B 512"]:
        """The scale's share of the features."""
        features: torch.Tensor = self.head(self.capsule(xy))
        return features


class LocationEncoder(nn.ModuleDict):
    """GeoCLIP's location encoder (section 3.1): the sum over three scales; its tensors are named as the package's."""

    def __init__(self) -> None:
        super().__init__({f"LocEnc{row}": ScaleEncoder(sigma) for row, sigma in enumerate(SIGMAS)})

    def forward(self, latlon: Float[torch.Tensor, "B 2"]) -> Float[torch.Tensor, "B 512"]:
        """Features of places (degrees, latitude first), of any length."""
        xy = equal_earth(latlon)
        features = torch.zeros((len(xy), NUM_FEATURES), dtype=xy.dtype, device=xy.device)
        for scale in self.values():
            features = features + scale(xy)
        return features


class ImageAdapter(nn.Sequential):
    """GeoCLIP's MLP from projected CLIP features, not scaled to length one, to the locations' space (section 3.2)."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(CLIP_FEATURES, CLIP_FEATURES), nn.ReLU(), nn.Linear(CLIP_FEATURES, NUM_FEATURES)
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GeoClipWeights:
    """What the geoclip package holds: state dicts of ``LocationEncoder`` and ``ImageAdapter``, and the gallery.

    ``logit_scale`` multiplies cosines (it is the exponential of the stored number). The gallery has duplicates.
    """

    location_encoder: dict[str, torch.Tensor]
    adapter: dict[str, torch.Tensor]
    logit_scale: float
    gallery_latlon: Float64[np.ndarray, "G 2"]


def read_geoclip(package: Path | None = None) -> GeoClipWeights:
    """The weights and the gallery of the installed geoclip package, or of another copy of its folder.

    The package isn't imported: that takes transformers. ``MissingDataError`` where it isn't installed; ``InputError``
    names the file that isn't what it should be. Pickled code is refused, not run.
    """
    folder = package or _package_folder()
    with torch.random.fork_rng(devices=[]):  # for their shapes; on the "meta" device the first one takes 5 s
        encoder, adapter = LocationEncoder().state_dict(), ImageAdapter().state_dict()
    log_scale = {"": torch.empty(())}
    return GeoClipWeights(
        location_encoder=_read_state(_file(folder, LOCATION_ENCODER), encoder),
        adapter=_read_state(_file(folder, ADAPTER), adapter),
        logit_scale=math.exp(_read_state(_file(folder, LOGIT_SCALE), log_scale)[""].item()),
        gallery_latlon=_read_places(_file(folder, GALLERY)),
    )


@torch.inference_mode()
def embed_locations(
    encoder: LocationEncoder, latlon: Float64[np.ndarray, "G 2"], batch: int = 1024
) -> Float32[np.ndarray, "G 512"]:
    """Features of length one of places (degrees), on the encoder's device.

    ``batch`` places at once, always, padded where there are fewer: kernels round differently for other sizes.
    """
    check_latlon(latlon)
    device = next(encoder.parameters()).device
    features = np.empty((len(latlon), NUM_FEATURES), np.float32)
    for start in range(0, len(latlon), batch):
        part = torch.from_numpy(latlon[start : start + batch]).float()
        padded = nn.functional.pad(part, (0, 0, 0, batch - len(part)))
        y = nn.functional.normalize(encoder(padded.to(device)), dim=1)
        features[start : start + len(part)] = y[: len(part)].cpu().numpy()
    return features


def _package_folder() -> Path:
    spec = find_spec(PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        return Path(folder)
    raise MissingDataError(f"the package {PACKAGE}, which holds GeoCLIP's weights, is not installed: {REMEDY}")


def _file(folder: Path, relative: str) -> Path:
    path = folder / relative
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; install the package again: {REMEDY}")
    return path


def _read_state(path: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file, which must have these names and shapes; a tensor alone has the name ``""``."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (entry := archive.testzip()) is not None:  # torch.load doesn't look at the checksums
                raise zipfile.BadZipFile(f"wrong checksum of {entry}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refusal(path, f"it is damaged or holds more than tensors ({reason})") from error
    state = content if isinstance(content, dict) else {"": content}
    if odd := sorted(set(map(str, state)) ^ set(expected)):
        raise _refusal(path, f"it lacks, or has besides, the entries {odd[:5]}")
    for name, tensor in expected.items():
        found = state[name]
        if not isinstance(found, torch.Tensor) or found.dtype != tensor.dtype or found.shape != tensor.shape:
            raise _refusal(path, f"{name or 'its content'} is not a float32 tensor of shape {tuple(tensor.shape)}")
        if not found.isfinite().all():
            raise _refusal(path, f"{name or 'its content'} has values that are not finite")
    return state


def _read_places(path: Path) -> Float64[np.ndarray, "G 2"]:
    """The gallery's places from their table."""
    try:
        header, *rows = path.read_text().splitlines() or [""]
        if header != "LAT,LON" or len(rows) != NUM_PLACES:
            raise ValueError(f"its header is {header[:40]!r}, and it has {len(rows)} rows")
        places = np.loadtxt(rows, delimiter=",", ndmin=2)
        if places.shape[1] != 2:
            raise ValueError(f"its rows have {places.shape[1]} numbers")
        check_latlon(places, path.name)
    except (OSError, ValueError) as error:
        raise _refusal(path, f"it is not a table LAT,LON of {NUM_PLACES} places ({error})") from error
    return np.asarray(places, np.float64)


def _refusal(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is not GeoCLIP's: {reason}; install the package again: {REMEDY}")
