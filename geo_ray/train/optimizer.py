"""Which parameters are trained, how steps are taken, and the mean of weights over steps."""

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase

import torch
from torch import nn

from geo_ray.errors import InputError
from geo_ray.train.config import LoopConfig
from geo_ray.train.parallel import unwrapped


def freeze(model: nn.Module, config: LoopConfig) -> None:
    """Freeze the parameters that a pattern of ``config.frozen`` names, but for those that one of ``trained`` does.

    Raises ``InputError`` for a pattern that names none, and where nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for field in ("frozen", "trained"):
        for pattern in getattr(config, field):
            if not any(fnmatchcase(name, pattern) for name in names):
                few = ", ".join(names[:: max(1, len(names) // 4)][:4])
                raise InputError(f"{field}: {pattern!r} names no parameter; there are {few} and others")
    for name, parameter in model.named_parameters():
        frozen = any(fnmatchcase(name, pattern) for pattern in config.frozen)
        parameter.requires_grad_(not frozen or any(fnmatchcase(name, pattern) for pattern in config.trained))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"frozen={config.frozen} leaves nothing to train")


def optimizer_of(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices and kernels alone, not on norms, biases and the logit scale."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=config.parallel == "ddp",
    )  # fmt: skip


def learning_rate_share(step: int, config: LoopConfig) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then half a cosine, a line, or no change."""
    warmup = config.warmup_share * config.num_steps
    if step < warmup:
        return min((step + 1) / warmup, 1.0)  # a warm-up of 2.5 steps must not end above the peak
    if config.schedule == "constant":
        return 1.0
    done = (step - warmup) / (config.num_steps - warmup)
    left = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1 - done
    return config.final_share + (1 - config.final_share) * left


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, config: LoopConfig) -> float:
    """Give the optimiser the learning rate of a step, from 0; returns it."""
    rate = config.learning_rate * learning_rate_share(step, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


class MeanWeights:
    """The exponential mean of the trained weights over steps (EMA), in float32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.weights = {name: p.detach().clone().float() for name, p in _trained(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of a step."""
        for name, parameter in _trained(model):
            self.weights[name].lerp_(parameter.detach().float(), 1 - self._decay)

    @torch.no_grad()
    def write_to(self, model: nn.Module) -> None:
        """Put the means in place of the weights."""
        for name, parameter in _trained(model):
            parameter.copy_(self.weights[name].to(parameter.dtype))


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    named = unwrapped(model).named_parameters()
    return ((name, parameter) for name, parameter in named if parameter.requires_grad)
