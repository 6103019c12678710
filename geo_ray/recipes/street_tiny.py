"""AddressCLIP, small, with fresh weights, on map tiles of a part of a city: a stand-in for street photos."""

import math
from pathlib import Path

import torch

from geo_ray.models.checkpoints import ClipCheckpoint
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.train.address_task import AddressConfig
from geo_ray.train.clip_model import ClipTowers, trained_state, write_open_clip

# A residual network as CLIP's RN50, with a fourth of its width and one block a stage: it learns from few tiles, where
# a transformer of its cost does not.
VISION = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32}
TINY = {
    "embed_dim": 128,
    "quick_gelu": True,
    "vision_cfg": VISION,
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "layers": 2, "heads": 2},
}  # fmt: skip


def street_tiny() -> AddressConfig:
    """Both towers from fresh weights on tiles of 64 pixels, on 2 CPU cores."""
    return AddressConfig(
        checkpoint="",  # made by ``write_fresh_open_clip``
        num_steps=1200, batch_size=128, learning_rate=1e-3, weight_decay=0.05, betas=(0.9, 0.98), eps=1e-6,
        warmup_share=0.05, precision="fp32", log_every=50, checkpoint_every=500, validate_every=250,
        shuffled_rows=4096, num_validation=1000,
    )  # fmt: skip


def fresh_checkpoint(seed: int = 0, image_size: int = 64) -> ClipCheckpoint:
    """The small CLIP with weights by the seed."""
    config = TINY | {"vision_cfg": VISION | {"image_size": image_size}}
    torch.manual_seed(seed)
    state = trained_state(ClipTowers(config).state_dict())
    return ClipCheckpoint(
        config=config, state=state, preprocessing="open_clip", image_mean=CLIP_MEAN, image_std=CLIP_STD,
        logit_scale=math.exp(float(state["logit_scale"])), weights_sha256="",
    )  # fmt: skip


def write_fresh_open_clip(folder: Path, seed: int = 0) -> Path:
    """Write it, unless it is there; returns its folder."""
    if not folder.exists():
        checkpoint = fresh_checkpoint(seed)
        write_open_clip(folder.with_name(folder.name + ".partial"), checkpoint, checkpoint.state)
        folder.with_name(folder.name + ".partial").rename(folder)
    return folder
