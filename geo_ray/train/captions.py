"""Captions of places after StreetCLIP's template, with parts left out at random as PIGEON does."""

import numpy as np

from geo_ray.atlas.geonames import english_names
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


def place_caption(*, town: str = "", region: str = "", country: str = "") -> str:
    """The caption with the parts that are given, ``country`` as ``country_words`` has it.

    StreetCLIP's (arXiv 2302.00275, section 3) with "Street View photo" made "satellite crop".
    """
    parts = ["A satellite crop"]
    if town:
        parts.append(f"close to the town of {town}")
    if region:
        parts.append(f"in the region of {region}")
    if country:
        parts.append(f"in {country}")
    return " ".join(parts) + "."


def draw_captions(places: NamedPlaces, config: CaptionConfig, rng: np.random.Generator) -> list[str]:
    """A caption for each place, its parts left out at random by the shares of ``config``."""
    shares = (config.town_share, config.region_share, config.country_share)
    kept = rng.random((len(places), 3)) < shares
    names = zip(places.towns, places.regions, places.countries, kept.tolist(), strict=True)
    return [_caption(town, region, country, parts) for town, region, country, parts in names]


def _caption(town: str, region: str, country: str, kept: list[bool]) -> str:
    """The caption with the parts kept, or the country alone where that would leave nothing."""
    town, region = town if kept[0] else "", region if kept[1] else ""
    nothing = not (town or region)
    return place_caption(town=town, region=region, country=country_words(country) if kept[2] or nothing else "")
