"""Losses of the published systems. Shapes: B batch, C cells."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch.nn import functional as F

from geo_ray.geo.sphere import EARTH_RADIUS_KM


def great_circle_km(a: Float[torch.Tensor, "B 2"], b: Float[torch.Tensor, "C 2"]) -> Float[torch.Tensor, "B C"]:
    """Distance in km of every point of ``a`` to every point of ``b`` (degrees), by the chord, in float64."""
    chord = torch.cdist(_unit(a), _unit(b), compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * EARTH_RADIUS_KM * torch.asin((chord / 2).clamp(max=1.0))


def _unit(latlon: Float[torch.Tensor, "n 2"]) -> Float[torch.Tensor, "n 3"]:
    lat, lon = torch.deg2rad(latlon.double()).unbind(-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=-1)


def haversine_targets(
    latlon: Float[torch.Tensor, "B 2"],
    cell_latlon: Float[torch.Tensor, "C 2"],
    cells: Int[torch.Tensor, "B"],
    tau_km: float,
    reference: Literal["nearest", "true"] = "nearest",
    normalize: bool = False,
) -> Float[torch.Tensor, "B C"]:
    """Smoothed labels exp(-(d_i - d_ref) / tau) for a point and every cell's centre (PIGEON, eq. 2).

    ``reference`` is whose distance is subtracted: the nearest centre's, as PIGEON's code does, or the true cell's, as
    the paper writes. A centre that is nearer than the true cell's gets 1, as that does: the paper's formula has no
    bound there, and one place near a far cell's edge would outweigh all others. ``normalize`` makes each row sum to 1,
    so that dense regions do not weigh more; the paper and its code do not. The reference then cancels.
    """
    distance = great_circle_km(latlon, cell_latlon)
    if normalize:
        return torch.softmax(-distance / tau_km, dim=1).float()
    if reference == "nearest":
        base = distance.min(dim=1, keepdim=True).values
    else:
        base = distance.gather(1, cells.long()[:, None])
    return torch.exp(-(distance - base).clamp(min=0) / tau_km).float()


def soft_cross_entropy(
    logits: Float[torch.Tensor, "B C"], targets: Float[torch.Tensor, "B C"]
) -> Float[torch.Tensor, ""]:
    """Mean over the batch of -sum_i y_i log p_i (PIGEON, eq. 3); targets need not sum to 1."""
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def place_contrastive(
    anchors: Float[torch.Tensor, "B D"],
    others: Float[torch.Tensor, "M D"],
    distance_km: Float[torch.Tensor, "B M"],
    logit_scale: Float[torch.Tensor, ""],
    sigma_km: float,
) -> Float[torch.Tensor, ""]:
    """InfoNCE of views against views of the same and of other places, with near places as soft positives.

    Targets are exp(-d / sigma), each row summing to 1, so that features order places by distance instead of pushing
    neighbours apart; sigma -> 0 with one other view a place is CLIP's loss (Radford et al. 2021, fig. 3). Features must
    have length 1.
    """
    targets = torch.softmax(-distance_km / sigma_km, dim=1).float()
    return soft_cross_entropy(logit_scale * anchors @ others.T, targets)


def geography_loss(
    images: Float[torch.Tensor, "B D"],
    xy: Float[torch.Tensor, "B 2"],
    all_images: Float[torch.Tensor, "N D"],
    all_xy: Float[torch.Tensor, "N 2"],
    form: Literal["near", "quoted"] = "near",
    radius_m: float = 0.0,
) -> Float[torch.Tensor, ""]:
    """The mean square of what features and places disagree by, over pairs of B images with N (AddressCLIP, eq. 4 to 6).

    Features have length one; places are in metres, on the flat. Their distance is the sum of both axes' (L1), each
    scaled to 0..1 over the N places, or where ``radius_m`` is given measured in it and cut off at 2, so that it means
    the same in every batch and city. "near" compares it with 1 - cosine, so that near places get like features, which
    is what the paper says; "quoted" with the cosine itself, as its formula is quoted, which asks for the opposite.
    """
    if radius_m > 0:
        apart = (torch.cdist(xy.double(), all_xy.double(), p=1) / radius_m).clamp(max=2.0)
    else:
        low, high = all_xy.double().amin(dim=0), all_xy.double().amax(dim=0)
        extent = torch.where(high > low, high - low, 1.0)
        apart = torch.cdist((xy.double() - low) / extent, (all_xy.double() - low) / extent, p=1)
    cosine = images.float() @ all_images.float().T
    return ((1 - cosine if form == "near" else cosine) - apart.float()).square().mean()
