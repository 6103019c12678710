"""Contrastive training of a small CLIP: its two towers, a step, and what every worker runs.

Shapes: B batch, S image side, T tokens, D features.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import nn

from geo_ray.datasets import earth
from geo_ray.geo.blocks import block_ids
from geo_ray.models.contrastive import Contrast, image_text_contrastive
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.train.augment import augment
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.captions import draw_captions
from geo_ray.train.crop_task import fresh_tower, normalize
from geo_ray.train.drawn import DrawnStream
from geo_ray.train.held_out import NamedPlaces, read_places
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.task import Stream

HEAD_WIDTH = 32
PLACES = "places.parquet"


class TextTower(nn.Module):
    """CLIP's text transformer, small and with fresh weights; every token sees every other."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        from open_clip.transformer import TextTransformer  # 2 s to import

        self.transformer = TextTransformer(
            context_length=config.context_length,
            width=config.text_width,
            heads=config.text_width // HEAD_WIDTH,
            layers=config.text_layers,
            output_dim=config.num_features,
            no_causal_mask=True,
            use_pad_mask=True,
        )

    def forward(self, tokens: Int[torch.Tensor, "B T"]) -> Float[torch.Tensor, "B D"]:
        """Text features, not normalised; T is at most the context's length."""
        features: torch.Tensor = self.transformer(tokens)
        return features


class ContrastiveModel(nn.Module):
    """An image tower, a text tower and the learned scale of their similarity."""

    def __init__(self, tower: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.text = text
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(
        self, pixels: Float[torch.Tensor, "B 3 S S"], tokens: Int[torch.Tensor, "B T"]
    ) -> tuple[Float[torch.Tensor, "B D"], Float[torch.Tensor, "B D"], Float[torch.Tensor, ""]]:
        """Image and text features of length one, and the logit scale (see ``heads.limit_logit_scale``)."""
        images = nn.functional.normalize(self.tower(pixels).float(), dim=1)
        texts = nn.functional.normalize(self.text(tokens).float(), dim=1)
        return images, texts, self.log_logit_scale.exp()


def tokenize(captions: list[str], context_length: int) -> Int[torch.Tensor, "B T"]:
    """CLIP's byte pairs, as many columns as the longest caption needs."""
    tokens: torch.Tensor = _tokenizer(context_length)(captions)
    return tokens[:, : int((tokens != 0).sum(dim=1).max())]


@lru_cache(maxsize=1)
def _tokenizer(context_length: int) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=context_length)


@dataclass(frozen=True, kw_only=True)
class CaptionBatch:
    """Views (B, 3, S, S) in 0..1, their captions' tokens (B, T), and what is true and said of them (B, P)."""

    pixels: torch.Tensor
    tokens: torch.Tensor
    true: torch.Tensor
    said: torch.Tensor


def country_weights(places: NamedPlaces) -> Float64[np.ndarray, "n"]:
    """Chance of drawing each place: a country's is the root of its blocks' count, shared alike by its blocks.

    A block is a quarter degree (``datasets.earth``); a third of the photos lie in 200 cities, and in one country.
    """
    _, block, in_block = np.unique(block_ids(places.latlon), return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(in_block[block])
    _, country = np.unique(places.countries.astype(str), return_inverse=True)
    weights = weights / np.sqrt(np.bincount(country, weights))[country]
    return np.asarray(weights / weights.sum())


def caption_batches(
    places: NamedPlaces,
    config: CaptionConfig,
    rank: int,
    states: Sequence[dict[str, Any]] = (),
    num_workers: int = 1,
) -> DrawnStream[CaptionBatch]:
    """Batches without end; every rank draws its own. ``states`` are where those of all ranks were left."""
    weights = country_weights(places)
    raster = earth.raster(earth.RASTERS[0])

    def draw(rng: np.random.Generator, generator: torch.Generator) -> CaptionBatch:
        drawn = places.take(rng.choice(len(places), config.pairs_per_step, p=weights))
        views = earth.jittered_views(drawn.latlon, rng, config.jitter, config.rotation_degrees)
        pixels = earth.sample(raster, earth.view_grid(views, config.image_size)) / 255
        captions = draw_captions(drawn, config, rng)
        return CaptionBatch(
            pixels=augment(pixels, generator, strength=config.strength),
            tokens=tokenize(captions.texts, config.context_length),
            true=torch.from_numpy(captions.true),
            said=torch.from_numpy(captions.said),
        )

    return DrawnStream(draw, config.seed, rank, states, num_workers)


def caption_losses(
    model: nn.Module,
    batch: CaptionBatch,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
    contrast: Contrast | None = None,
) -> dict[str, torch.Tensor]:
    """The contrast between images and captions as ``total``, and the logit scale that it has reached."""
    pixels = normalize(batch.pixels, *constants)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        images, texts, logit_scale = model(pixels, batch.tokens)
    total = image_text_contrastive(images, texts, batch.true, batch.said, logit_scale, contrast)
    return {"total": total, "logit_scale": logit_scale}


class CropCaptionTask:
    """Overhead crops with captions, for two small fresh towers."""

    best = ""

    def __init__(self, config: CaptionConfig) -> None:
        self._config = config
        tower = fresh_tower(config)
        self.model: nn.Module = ContrastiveModel(tower, TextTower(config))

    def losses(self, model: nn.Module, batch: CaptionBatch) -> dict[str, torch.Tensor]:
        """See ``caption_losses``."""
        device = next(model.parameters()).device
        on_device = CaptionBatch(**{name: tensor.to(device) for name, tensor in vars(batch).items()})
        return caption_losses(model, on_device, (CLIP_MEAN, CLIP_STD), self._config.contrast)

    def ids(self, batch: CaptionBatch) -> list[str]:
        """Crops have none: their numbers in the batch."""
        return [f"crop {number}" for number in range(len(batch.pixels))]

    def validate(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Nothing: the bundle is what is judged."""
        return {}


@dataclass(frozen=True, kw_only=True)
class CropCaptionWork:
    """The training of ``CropCaptionTask`` on the places in the run's ``PLACES``."""

    config: CaptionConfig

    def open(self, folder: RunFolder, states: Sequence[dict[str, Any]]) -> tuple[CropCaptionTask, Stream]:
        """The task and this worker's batches."""
        with tempfile.TemporaryDirectory() as here:
            places = read_places(folder.fetch(PLACES, Path(here, PLACES)))
        task = CropCaptionTask(self.config)
        return task, caption_batches(places, self.config, rank(), states, world_size())
