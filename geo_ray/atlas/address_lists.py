"""Candidate addresses of a user's own, and what photo collections say of addresses in their files."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from geo_ray.atlas.addresses import Addresses, coarser
from geo_ray.atlas.street_files import utm_latlon
from geo_ray.errors import InputError
from geo_ray.geo.sphere import spherical_mean
from geo_ray.remote_files import open_file
from geo_ray.tables.text import read_pieces

LEVELS = ("sub-street", "street", "neighbourhood", "corner")
COLUMNS = {
    "text": ("address", "text", "candidate", "name"),
    "id": ("address_id", "id"),
    "street": ("street", "street_name"),
    "neighbourhood": ("neighbourhood", "neighborhood"),
    "latitude": ("latitude", "lat", "y"),
    "longitude": ("longitude", "lon", "lng", "x"),
}


def candidates_of(known: Addresses, what: str) -> Addresses:
    """Addresses of another granularity (``LEVELS``), or those that a table lists."""
    if what in LEVELS:
        return known if what == "sub-street" else coarser(known, what)
    return read_list(what, known)


def read_list(path: str, known: Addresses) -> Addresses:
    """The addresses that a table lists, in its words, a row each (CSV, JSON lines, parquet).

    One without latitude and longitude lies where the known addresses do whose street, and as many of its crossings as
    can be, it names. ``InputError`` where there is none such, or no text.
    """
    rows: dict[str, list[str]] = {name: [] for name in COLUMNS}
    count = 0
    for piece in read_pieces(path, COLUMNS):
        size = max((len(values) for values in piece.values()), default=0)
        for name, values in rows.items():
            values += [str(value).strip() for value in piece.get(name, [""] * size)]
        count += size
    if not count or not any(rows["text"]):
        raise InputError(f"{path} lists no addresses; it needs a row or more with a column {COLUMNS['text'][0]!r}")
    if blank := [row + 1 for row, text in enumerate(rows["text"]) if not text]:
        raise InputError(f"{path}: row {blank[0]} has no address; leave it out")
    latlon = np.array([_place(path, row, rows, known) for row in range(count)])
    return Addresses(
        ids=np.array([key or f"{row + 1}" for row, key in enumerate(rows["id"])], dtype=object),
        texts=np.array(rows["text"], dtype=object),
        streets=np.array(rows["street"], dtype=object),
        neighbourhoods=np.array(rows["neighbourhood"], dtype=object),
        crossings=[()] * count,
        latlon=latlon,
        num_points=np.zeros(count, np.int64),
        lines=np.full(count, None, dtype=object),
    )


def _place(path: str, row: int, rows: dict[str, list[str]], known: Addresses) -> Float64[np.ndarray, "2"]:
    text, told = rows["text"][row], (rows["latitude"][row], rows["longitude"][row])
    if all(told):
        try:
            return np.array([float(value) for value in told])
        except ValueError as error:
            raise InputError(f"{path}: row {row + 1}: {told} are no degrees") from error
    at = places_named(text, known)
    if not len(at):
        raise InputError(
            f"{path}: row {row + 1}: {text!r} names no street or neighbourhood that is known; add columns latitude and "
            "longitude"
        )
    return np.asarray(spherical_mean(known.latlon[at]))


def places_named(text: str, known: Addresses) -> Shaped[np.ndarray, "k"]:
    """Rows of the known addresses that a text names best: by street and crossings, or else by neighbourhood."""
    said = f" {' '.join(re.findall(r'[^ ,.;]+', text.casefold()))} "

    def names(name: str) -> bool:
        return bool(name) and f" {' '.join(re.findall(r'[^ ,.;]+', name.casefold()))} " in said

    times = np.array([
        names(street) * (1 + sum(names(each) for each in crossings) + 0.5 * names(neighbourhood))
        for street, crossings, neighbourhood in zip(known.streets, known.crossings, known.neighbourhoods, strict=True)
    ])  # fmt: skip
    if not times.any():
        times = np.array([float(names(each)) for each in known.neighbourhoods])
    return np.flatnonzero(times == times.max()) if times.any() else np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What a collection says of an image: a caption and an address, empty where it says none."""

    image: str
    caption: str
    address: str


def read_annotations(path: str) -> list[Annotation]:
    """The annotations of Pitts-IAL or SF-IAL: JSON that maps an image's path to caption, verbose and plain address.

    The plain address is taken. ``InputError`` names the first entry that is something else.
    """
    try:
        with open_file(path, "infer") as file:
            found = json.loads(file.read())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as annotations ({error})") from error
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds no annotations: it must map image paths to [caption, address, address]")
    annotations = []
    for image, values in found.items():
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise InputError(f"{path}: {image!r} has {values!r}, not [caption, verbose address, address]")
        caption = values[0] if len(values) > 1 else ""
        annotations.append(Annotation(image=image, caption=caption.strip(), address=values[-1].strip()))
    return annotations


def places_of_names(names: Sequence[str]) -> Float64[np.ndarray, "n 2"]:
    """Degrees that file names of place recognition data sets tell; NaN where a name tells none.

    "@ UTM east @ UTM north @ zone @ letter @ latitude @ longitude @ ..." (VPR-datasets-downloader, SF-XL): the degrees,
    or else the UTM coordinates in their zone.
    """
    latlon = np.full((len(names), 2), np.nan)
    utm: list[tuple[int, float, float, int, bool]] = []
    for row, name in enumerate(names):
        fields = [field.strip() for field in Path(name).name.split("@")]
        if len(fields) < 7 or fields[0]:
            continue
        try:
            if fields[5] and fields[6]:
                latlon[row] = float(fields[5]), float(fields[6])
            elif fields[1] and fields[2] and fields[3] and fields[4]:
                utm.append((row, float(fields[1]), float(fields[2]), int(fields[3]), fields[4].upper() >= "N"))
        except ValueError:
            continue
    if utm:
        rows, east, north, zones, northern = zip(*utm, strict=True)
        latlon[list(rows)] = utm_latlon(np.array(east), np.array(north), zones, northern)
    return latlon
