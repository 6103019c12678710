"""Captions of places after StreetCLIP's template, with parts left out at random as PIGEON does."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from geo_ray.atlas.geonames import english_names
from geo_ray.atlas.subregions import subregions
from geo_ray.models.contrastive import NOTHING
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.held_out import NamedPlaces

PARTS = ("town", "region", "country", "subregion")  # of a caption
TOWN, REGION, COUNTRY, SUBREGION = range(len(PARTS))

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


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Captions of places, what is true of each place and what its caption says of it, as numbers: (n, parts).

    A number is that of a text, wherever it is drawn; ``NOTHING`` is a part that is unknown or not named.
    """

    texts: list[str]
    true: Int64[np.ndarray, "n p"]
    said: Int64[np.ndarray, "n p"]


def draw_captions(places: NamedPlaces, config: CaptionConfig, rng: np.random.Generator) -> Captions:
    """A caption for each place, its parts left out at random by the shares of ``config``.

    One that would name nothing names the country. With ``positives="equal"`` the whole caption is the one part.
    """
    shares = (config.town_share, config.region_share, config.country_share, config.subregion_share)
    parts = [
        (town, region, country_words(country), subregions().get(country, ""))
        for town, region, country in zip(places.towns, places.regions, places.countries, strict=True)
    ]
    true = np.array([[number_of(text) for text in row] for row in parts], np.int64).reshape(len(parts), len(shares))
    kept = rng.random((len(places), len(shares))) < shares
    kept[:, COUNTRY] |= ~(kept & (true != NOTHING))[:, [TOWN, REGION, SUBREGION]].any(axis=1)
    texts = [
        place_caption(**{name: text if keep else "" for name, text, keep in zip(PARTS, row, keeps, strict=True)})
        for row, keeps in zip(parts, kept.tolist(), strict=True)
    ]
    if config.positives == "equal":
        whole = np.array([number_of(text) for text in texts], np.int64)[:, None]
        return Captions(texts=texts, true=whole, said=whole)
    return Captions(texts=texts, true=true, said=np.where(kept, true, NOTHING))


@lru_cache(maxsize=100_000)
def number_of(text: str) -> int:
    """A number for a text, the same in every process; ``NOTHING`` for an empty one."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) + 1 if text else NOTHING
