"""Heads on image features, and the geocell model they make with a tower. Shapes: B batch, D features, C cells."""

import math

import torch
from jaxtyping import Float
from torch import nn


class GeocellHead(nn.Linear):
    """A linear geocell head (PIGEON, section 3.2) on features of length one.

    ``FEATURE_SCALE`` spreads the logits; without it, a few thousand cells take long to tell apart.
    """

    FEATURE_SCALE = 12.0

    def forward(self, features: Float[torch.Tensor, "B D"]) -> Float[torch.Tensor, "B C"]:
        """Cell logits."""
        return super().forward(features * self.FEATURE_SCALE)


class GeocellModel(nn.Module):
    """An image tower, a geocell head, and the contrastive loss's learned scale."""

    def __init__(self, tower: nn.Module, num_features: int, num_cells: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = GeocellHead(num_features, num_cells)
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(
        self, pixels: Float[torch.Tensor, "B 3 S S"]
    ) -> tuple[Float[torch.Tensor, "B D"], Float[torch.Tensor, "B C"], Float[torch.Tensor, ""]]:
        """Features of length one, cell logits, and the logit scale (inverse temperature, at most 100 as in CLIP)."""
        features = nn.functional.normalize(self.tower(pixels).float(), dim=1)
        return features, self.head(features), self.log_logit_scale.exp().clamp(max=100.0)
