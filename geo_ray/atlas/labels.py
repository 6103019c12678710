"""Labels of zero-shot geolocation: places as a forest, each with the caption that an image is compared with.

Shapes: L labels.
"""

import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from string import Formatter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64, Shaped

from geo_ray.atlas.geonames import english_names
from geo_ray.errors import InputError
from geo_ray.geo.sphere import check_latlon, from_unit_vectors, unit_vectors

ROOT = -1  # the parent of a label that has none
WORDS = ("name", "parent", "country", "region")  # of a template, in braces
# StreetCLIP (arXiv 2302.00275), section 3 and appendix B.3; its cities' names are in ASCII, its countries' aren't.
STREETCLIP_TEMPLATES = {
    "country": "A Street View photo in {name}.",
    "region": "A Street View photo in {name}, {country}.",
    "city": "A Street View photo from {name:ascii}.",
}
# OSV-5M, scripts/retrieval/street-clip-zero-shot.py, without its level of counties.
OSV5M_TEMPLATES = {
    "country": "{name}",
    "region": "{country}, {name:ascii}",
    "city": "{country}, {region:ascii}, {name:ascii}",
}
# Letters that Unicode does not take apart, as in GeoNames' ASCII names.
LETTERS = str.maketrans(
    {"ı": "i", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ħ": "h", "Ħ": "H"}
    | {"ə": "a", "Ə": "A", "ǝ": "a", "–": "-", **dict.fromkeys("’‘ʻʼ", "'")}
)
ACCENTED = re.compile("([ -~])[\u0300-\u036f]+")
COLUMNS = ("id", "name", "level", "parent", "latitude", "longitude", "country", "region", "text")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels by row, parents before children; ``ValueError`` names what breaks a rule.

    ``levels`` are "country", "region", "city" or a user's own words, ``parents`` rows of this table or -1, ``latlon``
    degrees, ``countries`` ISO 3166 alpha-2 codes and ``regions`` names (both empty where unknown), and ``texts`` the
    captions. No two children of one parent, and no two without one, have captions that a tokenizer can't tell apart.
    """

    ids: Shaped[np.ndarray, "L"]
    names: Shaped[np.ndarray, "L"]
    levels: Shaped[np.ndarray, "L"]
    parents: Int64[np.ndarray, "L"]
    latlon: Float64[np.ndarray, "L 2"]
    countries: Shaped[np.ndarray, "L"]
    regions: Shaped[np.ndarray, "L"]
    texts: Shaped[np.ndarray, "L"]

    def __post_init__(self) -> None:
        for field in fields(self):
            if len(getattr(self, field.name)) != len(self.ids):
                raise ValueError(f"labels: {len(getattr(self, field.name))} {field.name} of {len(self.ids)} labels")
        if not len(self.ids):
            raise ValueError("labels: there are none")
        for name in ("ids", "names", "texts"):
            empty = [row for row, value in enumerate(getattr(self, name)) if not value.strip()]
            if empty:
                raise ValueError(f"labels: the {name} of rows {empty[:3]} are empty")
        if same := first_repeat(self.ids):
            raise ValueError(f"labels: rows {same[0]} and {same[1]} have the same id {self.ids[same[0]]!r}")
        misplaced = np.flatnonzero((self.parents < ROOT) | (self.parents >= np.arange(len(self))))
        if len(misplaced):
            raise ValueError(
                f"labels: the parent of row {misplaced[0]} is {self.parents[misplaced[0]]}; it must be an earlier row, "
                f"or {ROOT} for none"
            )
        check_latlon(self.latlon, "labels")
        if same := first_repeat(zip(self.parents.tolist(), map(as_read, self.texts), strict=True)):
            raise ValueError(
                f"labels: {self.ids[same[0]]!r} and {self.ids[same[1]]!r} have the same parent and the same caption "
                f"{self.texts[same[0]]!r}, so no image can tell them apart"
            )

    def __len__(self) -> int:
        return len(self.ids)


def with_templates(labels: Labels, templates: Mapping[str, str]) -> Labels:
    """The same labels, with captions by one template for each level; a level without one keeps its captions.

    Templates hold ``{name}``, ``{parent}``, ``{country}`` and ``{region}``, each also in ASCII letters as
    ``{name:ascii}``. ``ValueError`` where one names anything else or what a label has none of.
    """
    unknown = sorted(set(templates) - set(labels.levels))
    if unknown:
        raise ValueError(f"templates for {unknown}: the labels' levels are {sorted(set(labels.levels))}")
    texts = [
        caption(templates[level], words) if level in templates else text
        for level, words, text in zip(labels.levels, words_of(labels), labels.texts, strict=True)
    ]
    return replace(labels, texts=np.array(texts, dtype=object))


def words_of(labels: Labels) -> list[dict[str, str]]:
    """What fills the templates of each label: its name, and those of its parent, country and region, or ""."""
    words: list[dict[str, str]] = []
    for row, parent in enumerate(labels.parents.tolist()):
        above = words[parent] if parent != ROOT else {}
        code = labels.countries[row]
        country = above.get("country") or (english_names().get(code, "") if code else "")
        if labels.levels[row] == "country":
            country = labels.names[row]
        own = (labels.names[row], above.get("name", ""), country, labels.regions[row])
        words.append(dict(zip(WORDS, own, strict=True)))
    return words


def caption(template: str, words: Mapping[str, str]) -> str:
    """The template with its words filled in; ``ValueError`` where it needs one that isn't there or is empty."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}") from error
    text = ""
    for literal, word, form, conversion in parts:
        text += literal
        if word is None:
            continue
        if word not in WORDS or form not in ("", "ascii") or conversion:
            raise ValueError(f"template {template!r} may hold {{{'}, {'.join(WORDS)}}} and the like of {{name:ascii}}")
        if not words[word]:
            raise ValueError(f"template {template!r}: {words['name']!r} has no {word}")
        text += to_ascii(words[word]) if form else words[word]
    return text


def to_ascii(name: str) -> str:
    """The name without accents: "São Paulo" is "Sao Paulo"; other scripts stay as they are."""
    plain = ACCENTED.sub(r"\1", unicodedata.normalize("NFKD", name.translate(LETTERS)))
    return unicodedata.normalize("NFC", plain).strip("' ")


def as_read(text: str) -> str:
    """The text as CLIP's tokenizers see it: in lower case and with single spaces."""
    return " ".join(text.lower().split())


def first_repeat(keys: Iterable[Hashable]) -> tuple[int, int] | None:
    """Positions of the first key that occurred before, and of its first occurrence, in order; or nothing."""
    seen: dict[Hashable, int] = {}
    for row, key in enumerate(keys):
        if key in seen:
            return seen[key], row
        seen[key] = row
    return None


def mean_of_members(
    latlon: Float64[np.ndarray, "m 2"], groups: Int64[np.ndarray, "m"], num_groups: int
) -> Float64[np.ndarray, "g 2"]:
    """The spherical mean in degrees of the members of each group; a group of -1 is none."""
    member = groups >= 0
    xyz = unit_vectors(latlon[member])
    sums = [np.bincount(groups[member], xyz[:, axis], num_groups) for axis in range(3)]
    return from_unit_vectors(np.stack(sums, axis=1))


def write_labels(labels: Labels, path: Path) -> None:
    """Write one row a label as parquet."""
    names, levels, countries, regions, texts, ids = (
        pa.array(column, pa.string())
        for column in (labels.names, labels.levels, labels.countries, labels.regions, labels.texts, labels.ids)
    )
    latitude, longitude = labels.latlon.T
    columns = (ids, names, levels, labels.parents, latitude, longitude, countries, regions, texts)
    pq.write_table(pa.table(dict(zip(COLUMNS, columns, strict=True))), path, compression="zstd")


def load_labels(path: Path) -> Labels:
    """Read what ``write_labels`` wrote; ``InputError`` names what is wrong with the file."""
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
        if sum(table.column(name).null_count for name in COLUMNS):
            raise ValueError("it has empty values")
        ids, names, levels, parents, latitude, longitude, countries, regions, texts = (
            table.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS
        )
        return Labels(
            ids=ids,
            names=names,
            levels=levels,
            parents=parents.astype(np.int64),
            latlon=np.stack([latitude, longitude], axis=1).astype(np.float64),
            countries=countries,
            regions=regions,
            texts=texts,
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a table of labels: {error}; import the bundle again") from error
