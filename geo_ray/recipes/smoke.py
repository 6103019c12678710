"""Every step of a training, small: from the embedded crops to a bundle, in about 90 s on 2 CPU cores."""

import math
from pathlib import Path

import torch

from geo_ray.cells.partition import CellSizes
from geo_ray.cells.semantic import Semantic
from geo_ray.index.prototypes import Clustering
from geo_ray.models.checkpoints import ClipCheckpoint
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.train.cell_task import CellConfig
from geo_ray.train.chain import ChainConfig
from geo_ray.train.clip_model import ClipTowers, trained_state, write_clip
from geo_ray.train.clip_task import ClipConfig

CROPS = "earth:1200"
TINY = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32, "mlp_ratio": 4.0,
                   "norm_kwargs": {"eps": 1e-5}},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "layers": 2, "heads": 2, "mlp_ratio": 4.0,
                 "norm_kwargs": {"eps": 1e-5}},
}  # fmt: skip


def smoke() -> ChainConfig:
    """A tiny CLIP with fresh weights, few cells, few steps: it shows that all works, not how well."""
    return ChainConfig(
        checkpoint="",  # made by ``write_fresh_clip``
        clip=ClipConfig(
            num_steps=30, batch_size=64, learning_rate=1e-3, log_every=10, checkpoint_every=20, validate_every=20,
            shuffled_rows=256, num_validation=64, precision="fp32",
        ),
        head=CellConfig(
            num_steps=200, batch_size=128, learning_rate=1e-2, log_every=50, checkpoint_every=100, validate_every=100,
            shuffled_rows=512, num_validation=200, normalize_targets=True, tau_km=300.0, precision="fp32",
        ),
        cells=Semantic(sizes=CellSizes(min_size=15, max_size=60)),
        partition="rectangles",  # semantic cells take 40 s, however few they are: every area of the Earth has one
        clustering=Clustering(noise="nearest"),
    )  # fmt: skip


def write_fresh_clip(folder: Path, seed: int = 0) -> Path:
    """Write a tiny CLIP with weights by the seed, unless it is there; returns its folder."""
    if not folder.exists():
        torch.manual_seed(seed)
        state = trained_state(ClipTowers(TINY).state_dict())
        checkpoint = ClipCheckpoint(
            config=TINY, state=state, preprocessing="transformers", image_mean=CLIP_MEAN, image_std=CLIP_STD,
            logit_scale=math.exp(float(state["logit_scale"])), weights_sha256="",
        )  # fmt: skip
        write_clip(folder.with_name(folder.name + ".partial"), checkpoint, state)
        folder.with_name(folder.name + ".partial").rename(folder)
    return folder
