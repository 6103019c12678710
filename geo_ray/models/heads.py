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


MAX_LOGIT_SCALE = 100.0


@torch.no_grad()
def limit_logit_scale(model: nn.Module) -> None:
    """Keep a model's learned ``log_logit_scale``, or open_clip's ``logit_scale``, at CLIP's cap or below after a step.

    A limit inside the forward pass would have no gradient at the cap, where published weights are: they would never
    leave it.
    """
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in ("log_logit_scale", "logit_scale"):
            parameter.clamp_(max=math.log(MAX_LOGIT_SCALE))


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
        """Features of length one, cell logits, and the logit scale (inverse temperature; see ``limit_logit_scale``)."""
        features = nn.functional.normalize(self.tower(pixels).float(), dim=1)
        return features, self.head(features), self.log_logit_scale.exp()
