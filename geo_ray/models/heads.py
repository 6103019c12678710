"""Heads on image features, and the geocell model they make with a tower. Shapes: B batch, D features, C cells."""

import math

import torch
from jaxtyping import Float
from torch import nn


class GeocellModel(nn.Module):
    """An image tower, a linear geocell head (PIGEON, section 3.2) and the contrastive loss's learned scale."""

    def __init__(self, tower: nn.Module, num_features: int, num_cells: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(num_features, num_cells)
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(
        self, pixels: Float[torch.Tensor, "B 3 S S"]
    ) -> tuple[Float[torch.Tensor, "B D"], Float[torch.Tensor, "B C"], Float[torch.Tensor, ""]]:
        """Image features, cell logits, and the logit scale (inverse temperature, at most 100 as in CLIP)."""
        features = self.tower(pixels)
        return features, self.head(features), self.log_logit_scale.exp().clamp(max=100.0)
