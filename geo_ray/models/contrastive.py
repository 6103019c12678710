"""Contrast between images and captions, over the batch of all workers.

Shapes: B pairs of this worker, N of all, D features, P parts of a caption (town, region, ...).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

NOTHING = 0  # a part that a caption does not name


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """How pairs are told apart.

    ``infonce`` is CLIP's loss (Radford et al. 2021), ``sigmoid`` SigLIP's (Zhai et al. 2023). Negatives are those of
    all workers (``global``), or this worker's own (``local``), or of as few pairs as ``reference_size`` says, which is
    what a paper's batch on one GPU had (PIGEON: 32). So many rows are compared at once as ``chunk`` says, and again for
    the gradient, so that memory grows as ``chunk`` x N and not as N x N.
    """

    loss: Literal["infonce", "sigmoid"] = "infonce"
    negatives: Literal["global", "local"] = "global"
    reference_size: int = 0
    chunk: int = 1024

    def __post_init__(self) -> None:
        if self.loss not in ("infonce", "sigmoid") or self.negatives not in ("global", "local"):
            raise ValueError(f"{self} must have the loss infonce or sigmoid, and the negatives global or local")
        if self.reference_size < 0 or self.chunk < 1:
            raise ValueError(f"{self} must have a reference_size from 0 and a chunk from 1")


def holds(true: Int[torch.Tensor, "B P"], said: Int[torch.Tensor, "N P"]) -> Bool[torch.Tensor, "B N"]:
    """Whether each caption says nothing but what is true of each image; what it leaves out is no matter.

    "in Northern Europe" holds for every image of Sweden: as a negative, an image would be pushed away from what
    describes it. Equal captions are the case of one part.
    """
    return ((said[None] == NOTHING) | (said[None] == true[:, None])).all(dim=2)


def image_text_contrastive(
    images: Float[torch.Tensor, "B D"],
    texts: Float[torch.Tensor, "B D"],
    true: Int[torch.Tensor, "B P"],
    said: Int[torch.Tensor, "B P"],
    logit_scale: Float[torch.Tensor, ""],
    contrast: Contrast | None = None,
    logit_bias: Float[torch.Tensor, ""] | float = 0.0,
) -> Float[torch.Tensor, ""]:
    """The loss of this worker's pairs; the mean over workers of equal batches is that of the joint batch.

    Features have length one. ``true`` are numbers of all that is true of an image, ``said`` of what its caption names
    of it, ``NOTHING`` where it names nothing. Each image wants all captions that hold for it alike, and each caption
    all images that it holds for (UniCL, Yang et al. 2022, eq. 3 and 4, with both directions normalised apart).
    """
    options, ours = contrast or Contrast(), Pairs(images, texts, true, said)
    if options.reference_size:
        few = map(Pairs._make, zip(*(torch.split(each, options.reference_size) for each in ours), strict=True))
        return torch.stack([_sum(part, part, logit_scale, logit_bias, options) for part in few]).sum() / len(images)
    every = Pairs._make(map(gathered, ours)) if options.negatives == "global" else ours
    return _sum(ours, every, logit_scale, logit_bias, options) / len(images)


class Pairs(NamedTuple):
    """Images and captions: features (n, D) of both, what is true of the image and what the caption says (n, P)."""

    images: torch.Tensor
    texts: torch.Tensor
    true: torch.Tensor
    said: torch.Tensor


def _sum(
    ours: Pairs, every: Pairs, scale: torch.Tensor, bias: torch.Tensor | float, options: Contrast
) -> Float[torch.Tensor, ""]:
    """The sum over our pairs of their losses among all pairs."""

    def to_texts(rows: slice) -> torch.Tensor:
        logits = scale * ours.images[rows] @ every.texts.T + bias
        return _LOSSES[options.loss](logits, holds(ours.true[rows], every.said))

    def to_images(rows: slice) -> torch.Tensor:
        logits = scale * ours.texts[rows] @ every.images.T + bias
        return _LOSSES[options.loss](logits, holds(every.true, ours.said[rows]).T)

    total = _in_chunks(to_texts, len(ours.images), options.chunk)
    if options.loss == "sigmoid":  # all pairs are in one direction already
        return total
    return (total + _in_chunks(to_images, len(ours.images), options.chunk)) / 2


def _in_chunks(part: Callable[[slice], torch.Tensor], size: int, chunk: int) -> Float[torch.Tensor, ""]:
    """The sum over parts of the rows; with more than one part, each is computed again for the gradient."""
    if size <= chunk:
        return part(slice(0, size))
    parts = (slice(start, min(start + chunk, size)) for start in range(0, size, chunk))
    sums: list[torch.Tensor] = [checkpoint(part, rows, use_reentrant=False) for rows in parts]
    return torch.stack(sums).sum()


def _infonce(logits: Float[torch.Tensor, "b N"], positive: Bool[torch.Tensor, "b N"]) -> Float[torch.Tensor, ""]:
    """The sum over rows of the mean of -log p over what is right."""
    log_p = F.log_softmax(logits.float(), dim=1)
    return -(torch.where(positive, log_p, 0.0).sum(dim=1) / positive.sum(dim=1)).sum()


def _sigmoid(logits: Float[torch.Tensor, "b N"], positive: Bool[torch.Tensor, "b N"]) -> Float[torch.Tensor, ""]:
    """The sum over pairs of -log sigmoid(z logit), z 1 for what is right and -1 for the rest."""
    return -F.logsigmoid(torch.where(positive, logits.float(), -logits.float())).sum()


_LOSSES = {"infonce": _infonce, "sigmoid": _sigmoid}


def gathered(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all workers in the order of their ranks, with the gradient of all workers' losses.

    All workers must have as many. Without other workers, the rows themselves.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    every: torch.Tensor = _Gathered.apply(rows)
    return every


class _Gathered(torch.autograd.Function):
    """Gathering whose gradient is the sum over workers of theirs: what each one's loss says of these rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
