"""Complete configurations of runs, as functions, by name."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo_ray.errors import InputError
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.recipes.earth_captions import earth_captions
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.train.assemble import assemble
from geo_ray.train.caption_bundle import assemble_captions
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.config import TrainConfig
from geo_ray.train.trainer import train, train_captions


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a run and its encoder, and what makes the bundle ``output``/bundle of them."""

    settings: Callable[[], tuple[Any, EncoderSpec]]
    build: Callable[[Any, EncoderSpec, Path], None]


def _build_geocells(config: TrainConfig, encoder: EncoderSpec, output: Path) -> None:
    weights, cells = train(config, output)
    assemble(config, weights, cells, encoder, output / "bundle")


def _build_captions(config: CaptionConfig, encoder: EncoderSpec, output: Path) -> None:
    weights, held_out = train_captions(config, output)
    assemble_captions(config, weights, held_out, encoder, output / "bundle")


RECIPES: dict[str, Recipe] = {
    "earth-tiny": Recipe(settings=earth_tiny, build=_build_geocells),
    "earth-captions": Recipe(settings=earth_captions, build=_build_captions),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of a name; ``InputError`` names the recipes there are."""
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]


def run_recipe(name: str, output: Path) -> Path:
    """Train by a recipe on the connected Ray; returns the folder of the bundle, ``output``/bundle."""
    recipe = find_recipe(name)
    config, encoder = recipe.settings()
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
    recipe.build(config, encoder, output)
    return output / "bundle"
