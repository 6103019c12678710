"""Complete configurations of runs, as functions, by name."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from geo_ray.errors import InputError
from geo_ray.models.bundle import EncoderSpec
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.train.assemble import assemble
from geo_ray.train.config import TrainConfig
from geo_ray.train.trainer import train

RECIPES: dict[str, Callable[[], tuple[TrainConfig, EncoderSpec]]] = {"earth-tiny": earth_tiny}


def find_recipe(name: str) -> tuple[TrainConfig, EncoderSpec]:
    """The configuration of a recipe; ``InputError`` names the recipes there are."""
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]()


def run_recipe(name: str, output: Path) -> Path:
    """Train by a recipe on the connected Ray; returns the folder of the bundle, ``output``/bundle."""
    config, encoder = find_recipe(name)
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
    weights, cells = train(config, output)
    assemble(config, weights, cells, encoder, output / "bundle")
    return output / "bundle"
