"""Complete configurations of trainings, as functions, by name."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo_ray.errors import InputError, OutputError
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.recipes.earth_captions import earth_captions
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.recipes.papers import addressclip, pigeon, pigeon_clip, pigeotto, pigeotto_clip, streetclip
from geo_ray.recipes.settings import with_settings
from geo_ray.recipes.smoke import CROPS, smoke, write_fresh_clip
from geo_ray.recipes.street_tiny import street_tiny, write_fresh_open_clip
from geo_ray.remote_files import absolute
from geo_ray.train.address_chain import run_addresses
from geo_ray.train.address_task import AddressConfig
from geo_ray.train.assemble import assemble
from geo_ray.train.caption_bundle import assemble_captions
from geo_ray.train.chain import ChainConfig, Place, check_table, pretrain, run_chain
from geo_ray.train.clip_task import ClipConfig
from geo_ray.train.config import TowerConfig
from geo_ray.train.crop_runs import train, train_captions
from geo_ray.train.run_card import write_card


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A configuration, what makes of it what is in ``output``, and the hardware it is meant for."""

    settings: Callable[[], Any]
    build: Callable[[Any, Path, Place], Path]
    hardware: str
    streams: bool = True  # a table's images, which the user names


def _build_earth_tiny(config: Any, output: Path, place: Place) -> Path:
    weights, cells = train(config, output, place.scale, place.say)
    assemble(config, weights, cells, small_encoder(config), output / "bundle")
    return output / "bundle"


def _build_earth_captions(config: Any, output: Path, place: Place) -> Path:
    weights, held_out = train_captions(config, output, place.scale, place.say)
    assemble_captions(config, weights, held_out, small_encoder(config), output / "bundle")
    return output / "bundle"


def small_encoder(config: TowerConfig) -> EncoderSpec:
    """The encoder that a small tower's training makes."""
    return EncoderSpec(
        architecture=config.tower, image_size=config.image_size, num_features=config.num_features, micro_batch=16
    )


def _pretrain(config: ClipConfig, output: Path, place: Place) -> Path:
    from geo_ray.models.published import Import, import_bundle

    model = pretrain(config, output, place)
    bundle = output / "bundle"
    if not bundle.exists():
        kind = "streetclip" if config.captions == "streetclip" else "openclip"
        licence = "that of the photos and of the checkpoint"
        import_bundle(Import(kind=kind, source=str(model), licence=licence), bundle, place.say)
    return bundle


def _addresses(config: AddressConfig, output: Path, place: Place) -> Path:
    return run_addresses(config, output, place)


def _street_tiny(config: AddressConfig, output: Path, place: Place) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = config.checkpoint or str(write_fresh_open_clip(output / "fresh", config.seed))
    return run_addresses(dataclasses.replace(config, checkpoint=checkpoint), output, place)


def _chain(config: ChainConfig, output: Path, place: Place) -> Path:
    return run_chain(config, output, place)


def _smoke(config: ChainConfig, output: Path, place: Place) -> Path:
    from geo_ray.data.training_table import TableOptions, build_training_table

    output.mkdir(parents=True, exist_ok=True)
    table = place.table
    if not table:
        table = str(output / "table")
        if not Path(table, "_table.json").exists():
            place.say("0 of 6: table of embedded crops")
            build_training_table(TableOptions(inputs=(CROPS,), output=table), place.say)
    checkpoint = config.checkpoint or str(write_fresh_clip(output / "fresh"))
    return run_chain(
        dataclasses.replace(config, checkpoint=checkpoint), output, dataclasses.replace(place, table=table)
    )


TWO_CORES = "2 CPU cores"
FOUR_A100 = "4 A100 of 80 GB"
RECIPES: dict[str, Recipe] = {
    "earth-tiny": Recipe(
        settings=lambda: earth_tiny()[0], build=_build_earth_tiny, hardware=f"{TWO_CORES}, 25 min", streams=False
    ),
    "earth-captions": Recipe(
        settings=lambda: earth_captions()[0], build=_build_earth_captions, hardware=f"{TWO_CORES}, 12 min",
        streams=False,
    ),
    "smoke": Recipe(settings=smoke, build=_smoke, hardware=f"{TWO_CORES}, 2 min", streams=False),
    "streetclip": Recipe(settings=streetclip, build=_pretrain, hardware="3 A100 of 80 GB"),
    "pigeon-clip": Recipe(settings=pigeon_clip, build=_pretrain, hardware=FOUR_A100),
    "pigeotto-clip": Recipe(settings=pigeotto_clip, build=_pretrain, hardware=FOUR_A100),
    "addressclip": Recipe(settings=addressclip, build=_addresses, hardware="8 V100"),
    "street-tiny": Recipe(settings=street_tiny, build=_street_tiny, hardware=f"{TWO_CORES}, 20 min"),
    "pigeon": Recipe(settings=pigeon, build=_chain, hardware="1 A100 of 80 GB; embedding on any GPUs"),
    "pigeotto": Recipe(settings=pigeotto, build=_chain, hardware="1 A100 of 80 GB; embedding on any GPUs"),
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """The recipe of a name; ``InputError`` names the recipes there are."""
    if name not in RECIPES:
        raise InputError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]


def configured(name: str, changes: Sequence[str] = (), table: str = "") -> Any:
    """A recipe's configuration with settings changed, and its table looked at; ``InputError`` says what's wrong."""
    recipe = find_recipe(name)
    config = with_settings(recipe.settings(), changes)
    if recipe.streams:
        check_table(table)
    return config


def run_recipe(name: str, output: Path, place: Place | None = None, changes: Sequence[str] = ()) -> Path:
    """Train by a recipe on the connected Ray; returns the folder of the bundle.

    Run again, it goes on where it was. ``OutputError`` where the output holds what other settings have made.
    """
    place, output = _anywhere(place or Place(table="")), output.resolve()
    config = _with_absolute_checkpoint(configured(name, changes, place.table))
    output.mkdir(parents=True, exist_ok=True)
    settings = json.dumps({"recipe": name, "table": place.table, **dataclasses.asdict(config)}, indent=1) + "\n"
    path = output / "config.json"
    if path.exists() and path.read_text() != settings:
        raise OutputError(f"{output} was made with other settings ({_difference(path.read_text(), settings)}); name "
                          "another --output, or delete it")  # fmt: skip
    path.write_text(settings)
    bundle = find_recipe(name).build(config, output, place)
    write_card(name, find_recipe(name).hardware, output, bundle)
    return bundle


def _anywhere(place: Place) -> Place:
    """The same with the whole path of a table on this machine: workers have folders of their own."""
    return dataclasses.replace(place, table=absolute(place.table)) if place.table else place


def _with_absolute_checkpoint(config: Any) -> Any:
    """The same with the whole path of a checkpoint, where it is a folder of this machine."""
    checkpoint = getattr(config, "checkpoint", "")
    if not checkpoint or not Path(checkpoint).is_dir():
        return config
    return dataclasses.replace(config, checkpoint=absolute(checkpoint))


def _difference(was: str, now: str) -> str:
    before, after = json.loads(was), json.loads(now)
    names = [name for name in after | before if before.get(name) != after.get(name)]
    return ", ".join(f"{name}: {before.get(name)!r} before, {after.get(name)!r} now" for name in names)
