"""Captions of places after StreetCLIP's template, with parts left out at random as PIGEON does."""

import numpy as np

from geo_ray.atlas.geonames import english_names
from geo_ray.atlas.subregions import subregions
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.held_out import NamedPlaces

# Countries whose name takes an article in a sentence.
WITH_ARTICLE = frozenset(
    {"AE", "BQ", "BS", "CC", "CD", "CF", "CG", "CK", "DO", "FK", "FO", "GB", "GM", "IM", "IO", "KM", "KY", "MH", "MP"}
    | {"MV", "NL", "PH", "PN", "SB", "SC", "TC", "TF", "US", "VG", "VI"}
)


def country_words(code: str) -> str:
    """A country's name as a sentence has it: "the Netherlands", "France"."""
    name = english_names()[code]
    return f"the {name}" if code in WITH_ARTICLE and not name.startswith("The ") else name


def place_caption(*, town: str = "", region: str = "", country: str = "", subregion: str = "") -> str:
    """The caption with the parts that are given, ``country`` as ``country_words`` has it.

    StreetCLIP's (arXiv 2302.00275, section 3) with "Street View photo" made "satellite crop", and the part of the
    world: a word for where a country lies that is learned from others.
    """
    parts = ["A satellite crop"]
    if town:
        parts.append(f"close to the town of {town}")
    if region:
        parts.append(f"in the region of {region}")
    if country or subregion:
        parts.append("in " + ", ".join(part for part in (country, subregion) if part))
    return " ".join(parts) + "."


def draw_captions(places: NamedPlaces, config: CaptionConfig, rng: np.random.Generator) -> list[str]:
    """A caption for each place, its parts left out at random by the shares of ``config``."""
    shares = (config.town_share, config.region_share, config.country_share, config.subregion_share)
    kept = rng.random((len(places), len(shares))) < shares
    names = zip(places.towns, places.regions, places.countries, kept.tolist(), strict=True)
    return [_caption(town, region, country, parts) for town, region, country, parts in names]


def _caption(town: str, region: str, country: str, kept: list[bool]) -> str:
    """The caption with the parts kept, or the country alone where that would leave nothing."""
    given = (town, region, country_words(country), subregions().get(country, ""))
    town, region, nation, subregion = (part if keep else "" for part, keep in zip(given, kept, strict=True))
    if not (town or region or subregion):
        nation = given[2]
    return place_caption(town=town, region=region, country=nation, subregion=subregion)
