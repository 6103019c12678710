"""Photometric augmentation of overhead crops: other seasons, colours, sensors, weather and resolutions of one place.

Every function takes and returns (B, 3, S, S) float32 in 0..1, on the CPU; randomness is the generator's.
"""

import torch
from jaxtyping import Float
from torch.nn import functional as F

Pixels = Float[torch.Tensor, "B 3 S S"]


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    """Numbers drawn uniformly from [low, high)."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def sometimes(batch: int, probability: float, rng: torch.Generator) -> torch.Tensor:
    """1.0 for the images that are to be changed, 0.0 for the others, (B, 1, 1, 1)."""
    return (torch.rand((batch, 1, 1, 1), generator=rng) < probability).float()


def smooth_noise(batch: int, size: int, cells: int, rng: torch.Generator) -> torch.Tensor:
    """A random field in 0..1 with structures of about size / cells pixels, (B, 1, S, S)."""
    coarse = torch.rand((batch, 1, cells, cells), generator=rng)
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


def colour(x: Pixels, strength: float, rng: torch.Generator) -> Pixels:
    """Another sensor: channels mixed by a random matrix, gamma, gain and offset."""
    b = len(x)
    mix = torch.eye(3) + torch.randn((b, 3, 3), generator=rng) * 0.15 * strength
    x = torch.einsum("bij,bjhw->bihw", mix, x).clamp(0, 1)
    gamma = torch.exp(
        uniform((b, 3, 1, 1), -0.25, 0.25, rng) * strength + uniform((b, 1, 1, 1), -0.6, 0.4, rng) * strength
    )
    gain = torch.exp(uniform((b, 1, 1, 1), -0.4, 0.4, rng) * strength)
    offset = uniform((b, 3, 1, 1), -0.08, 0.08, rng) * strength
    return (x.clamp_min(1e-4).pow(gamma) * gain + offset).clamp(0, 1)


def desaturate(x: Pixels, probability: float, rng: torch.Generator) -> Pixels:
    """Some images partly or wholly grey."""
    grey = x.mean(dim=1, keepdim=True)
    share = sometimes(len(x), probability, rng) * uniform((len(x), 1, 1, 1), 0.3, 1.3, rng).clamp(max=1)
    return x + share * (grey - x)


def flat_water(x: Pixels, probability: float, rng: torch.Generator) -> Pixels:
    """Some images with the sea in one random colour: rasters differ most in how they draw water."""
    blueness = x[:, 2:3] - torch.maximum(x[:, 0:1], x[:, 1:2])
    water = torch.sigmoid((blueness - 0.06) * 60) * sometimes(len(x), probability, rng)
    return x + water * (uniform((len(x), 3, 1, 1), 0.0, 0.5, rng) - x)


def snow_and_cloud(x: Pixels, probability: float, rng: torch.Generator) -> Pixels:
    """Some images with white patches, soft or hard, over a random share of the view."""
    field = smooth_noise(len(x), x.shape[-1], 6, rng) * 0.7 + smooth_noise(len(x), x.shape[-1], 20, rng) * 0.3
    threshold = uniform((len(x), 1, 1, 1), 0.55, 0.9, rng)
    cover = torch.sigmoid((field - threshold) * uniform((len(x), 1, 1, 1), 8.0, 40.0, rng))
    return x + cover * sometimes(len(x), probability, rng) * (uniform((len(x), 1, 1, 1), 0.7, 1.0, rng) - x)


def season(x: Pixels, probability: float, rng: torch.Generator) -> Pixels:
    """Some images with a slowly varying tint, as vegetation greens or browns by region."""
    tint = torch.cat([smooth_noise(len(x), x.shape[-1], 4, rng) for _ in range(3)], dim=1) - 0.5
    return (x * (1 + tint * sometimes(len(x), probability, rng) * 0.9)).clamp(0, 1)


def lower_resolution(x: Pixels, probability: float, rng: torch.Generator) -> Pixels:
    """Part of the batch shrunk and enlarged again, by one factor a call."""
    size = x.shape[-1]
    side = round(size / float(uniform((1,), 1.2, 3.5, rng)))
    small = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    blurred = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    return x + sometimes(len(x), probability, rng) * (blurred - x)


def sharpen(x: Pixels, probability: float, rng: torch.Generator) -> Pixels:
    """Part of the batch with local contrast raised, as rasters of higher resolution look."""
    detail = x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return (x + sometimes(len(x), probability, rng) * uniform((len(x), 1, 1, 1), 0.0, 1.5, rng) * detail).clamp(0, 1)


def noise(x: Pixels, strength: float, rng: torch.Generator) -> Pixels:
    """Sensor noise of a random amount an image."""
    amount = uniform((len(x), 1, 1, 1), 0.0, 0.03 * strength, rng)
    return (x + torch.randn(x.shape, generator=rng) * amount).clamp(0, 1)


def augment(x: Pixels, rng: torch.Generator, strength: float = 1.0) -> Pixels:
    """All of the above, in the order in which light meets them."""
    x = flat_water(x, 0.4 * strength, rng)
    x = season(x, 0.5 * strength, rng)
    x = snow_and_cloud(x, 0.25 * strength, rng)
    x = lower_resolution(x, 0.4 * strength, rng)
    x = sharpen(x, 0.2 * strength, rng)
    x = colour(x, strength, rng)
    x = desaturate(x, 0.25 * strength, rng)
    return noise(x, strength, rng)
