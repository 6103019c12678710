"""Small image towers of our own, by name; open_clip's towers come through ``clip.py``.

Shapes: B batch, C channels, S image side, D features.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm beside a shortcut (He et al. 2016, arXiv 1512.03385, fig. 2)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        same = stride == 1 and channels_in == channels_out
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        )

    def forward(self, x: Float[torch.Tensor, "B C h w"]) -> Float[torch.Tensor, "B D g v"]:
        """The block's output, at half the size where the stride is 2."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ResidualTower(nn.Module):
    """A residual network whose last feature map is flattened, not pooled: where a coast lies in the view matters."""

    def __init__(self, image_size: int, widths: tuple[int, ...], depths: tuple[int, ...], num_features: int) -> None:
        super().__init__()
        if image_size % 2 ** len(widths):
            raise ValueError(
                f"image_size={image_size} must be a multiple of {2 ** len(widths)} for {len(widths)} widths"
            )
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 4, 2, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        channels = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                layers.append(ResidualBlock(channels, width, 2 if block == 0 and stage > 0 else 1))
                channels = width
        self.trunk = nn.Sequential(*layers)
        side = image_size // 2 ** len(widths)
        self.project = nn.Linear(channels * side * side, num_features)

    def forward(self, pixels: Float[torch.Tensor, "B 3 S S"]) -> Float[torch.Tensor, "B D"]:
        """Image features, not normalised."""
        features: torch.Tensor = self.project(self.trunk(pixels).flatten(1))
        return features


def residual_tiny(image_size: int, num_features: int) -> ResidualTower:
    """About 3 M parameters; for 64-pixel crops."""
    return ResidualTower(image_size, (32, 64, 128, 256), (0, 2, 2, 2), num_features)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """The module in evaluation mode with batch norms merged into the convolution before them, in place.

    Only neighbours in a ``Sequential`` are merged; other batch norms stay.
    """
    for child in module.eval().children():
        fold_batch_norm(child)
    if isinstance(module, nn.Sequential):
        for index in range(len(module) - 1):
            first, second = module[index], module[index + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[index], module[index + 1] = fuse_conv_bn_eval(first, second), nn.Identity().eval()
    return module


TOWERS: dict[str, Callable[[int, int], nn.Module]] = {"residual-tiny": residual_tiny}
