"""Addresses: sub-streets of a city in words, with where they lie, and the address of a photo by its position."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from jaxtyping import Float64, Int64, Shaped
from scipy.spatial import cKDTree

from geo_ray.atlas.geoparquet import geoparquet_metadata, reading
from geo_ray.atlas.streets import StreetGraph, SubStreets, from_local_xy, local_lines, local_xy, middle_of
from geo_ray.errors import InputError
from geo_ray.geo.sphere import check_latlon, spherical_mean

TEXTS = ("address_id", "address", "street", "neighbourhood")
REMEDY = "build it with geo-ray address build"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Candidate addresses, a row each: ids, texts, their parts, empty where unknown, and their middles (degrees).

    ``crossings`` are the streets at the ends of a sub-street, ``num_points`` how many points it has, and ``lines`` its
    course in degrees, longitude first, None where it isn't known.
    """

    ids: Shaped[np.ndarray, "a"]
    texts: Shaped[np.ndarray, "a"]
    streets: Shaped[np.ndarray, "a"]
    neighbourhoods: Shaped[np.ndarray, "a"]
    crossings: Sequence[tuple[str, ...]]
    latlon: Float64[np.ndarray, "a 2"]
    num_points: Int64[np.ndarray, "a"]
    lines: Shaped[np.ndarray, "a"]

    def __post_init__(self) -> None:
        if not len(self.ids):
            raise InputError("the list of addresses is empty; give one address or more")
        check_latlon(self.latlon, "addresses")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Int64[np.ndarray, "k"]) -> "Addresses":
        """Those at some rows."""
        arrays = {name: value[rows] for name, value in self._arrays().items()}
        return Addresses(crossings=[self.crossings[row] for row in rows.tolist()], **arrays)

    def and_others(self, others: "Addresses") -> "Addresses":
        """These and others, with new ids for the others where these have theirs."""
        held = set(self.ids)
        renamed = [f"{key}-other" if key in held else key for key in others.ids]
        arrays = {name: np.concatenate([value, others._arrays()[name]]) for name, value in self._arrays().items()}
        arrays["ids"] = np.concatenate([self.ids, np.array(renamed, dtype=object)])
        return Addresses(crossings=[*self.crossings, *others.crossings], **arrays)

    def _arrays(self) -> dict[str, np.ndarray]:
        """The columns that are arrays, without what is computed of them."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "crossings"}

    @cached_property
    def center(self) -> Float64[np.ndarray, "2"]:
        """The middle of all, degrees, about which the city is flat."""
        return spherical_mean(self.latlon)

    @cached_property
    def local_lines(self) -> Shaped[np.ndarray, "a"]:
        """The courses in metres about the centre; a point where only that is known."""
        known = ~shapely.is_missing(self.lines)
        found = np.asarray(shapely.points(local_xy(self.latlon, self.center)), dtype=object)
        found[known] = local_lines(self.lines[known], self.center)
        return found


def address_text(street: str, crossings: Sequence[str], neighbourhood: str) -> str:
    """A sub-street in the words of AddressCLIP's project page, whose "on a section of A that near B" is mended."""
    where = f"located in {neighbourhood}, specifically" if neighbourhood else "located"
    if len(crossings) == 2:
        return f"{where} on a section of {street} lying between {crossings[0]} and {crossings[1]}"
    return f"{where} on a section of {street} near {crossings[0]}" if crossings else f"{where} on {street}"


def street_text(street: str, neighbourhood: str) -> str:
    """A street of a neighbourhood in the words of its sub-streets, which a model has learned, without their ends."""
    where = f"located in {neighbourhood}, specifically" if neighbourhood else "located"
    return f"{where} on a section of {street}"


def neighbourhood_text(neighbourhood: str) -> str:
    """A neighbourhood in the same words."""
    return f"located in {neighbourhood}"


def corner_text(street: str, crossing: str) -> str:
    """A crossing as people say it."""
    return f"at the corner of {street} and {crossing}"


def addresses_of(graph: StreetGraph, cut: SubStreets) -> Addresses:
    """The addresses of sub-streets; each is in the neighbourhood that most of its nodes are in."""
    courses = local_lines(graph.lines, graph.center)
    middles = [middle_of(courses[rows]) for rows in cut.edges]
    neighbourhoods = [_most_common(graph.neighbourhoods[np.unique(graph.ends[rows])]) for rows in cut.edges]
    texts = [
        address_text(street, crossings, neighbourhood)
        for street, crossings, neighbourhood in zip(cut.names, cut.crossings, neighbourhoods, strict=True)
    ]
    xy = np.array([(point.x, point.y) for point in middles]).reshape(-1, 2)
    return Addresses(
        ids=address_ids(cut.names),
        texts=np.array(texts, dtype=object),
        streets=cut.names,
        neighbourhoods=np.array(neighbourhoods, dtype=object),
        crossings=cut.crossings,
        latlon=from_local_xy(xy, graph.center),
        num_points=cut.num_points,
        lines=np.array([shapely.multilinestrings(list(graph.lines[rows])) for rows in cut.edges], dtype=object),
    )


def _most_common(values: Shaped[np.ndarray, "n"]) -> str:
    counts = Counter(value for value in values.tolist() if value)
    return min(counts, key=lambda value: (-counts[value], value)) if counts else ""


def address_ids(streets: Shaped[np.ndarray, "s"]) -> Shaped[np.ndarray, "s"]:
    """The street's name in small letters and a number, from 1."""
    count: Counter[str] = Counter()
    ids = []
    for street in streets:
        slug = re.sub(r"\W+", "-", str(street).casefold()).strip("-") or "street"
        count[slug] += 1
        ids.append(f"{slug}-{count[slug]}")
    return np.array(ids, dtype=object)


def coarser(addresses: Addresses, level: str) -> Addresses:
    """The streets (of each neighbourhood), neighbourhoods or corners that sub-streets make up, each once.

    ``InputError`` where there are none, as where no neighbourhood is known.
    """
    if level not in ("street", "neighbourhood", "corner"):
        raise InputError(f"level {level!r} must be street, neighbourhood or corner, or sub-street for all as they are")
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, (street, neighbourhood, crossings) in enumerate(
        zip(addresses.streets, addresses.neighbourhoods, addresses.crossings, strict=True)
    ):
        if level == "corner":
            for crossing in crossings:
                groups.setdefault((*sorted((street, crossing)), neighbourhood), []).append(row)
        elif key := (street, neighbourhood) if level == "street" else (neighbourhood,) if neighbourhood else ():
            groups.setdefault(key, []).append(row)
    if not groups:
        raise InputError(f"these addresses have no {level}; choose another level")
    keys = sorted(groups)
    named = [_coarse_text(level, key) for key in keys]
    rows = [np.array(groups[key]) for key in keys]
    return Addresses(
        ids=address_ids(np.array([" ".join(key) for key in keys], dtype=object)),
        texts=np.array(named, dtype=object),
        streets=np.array([key[0] if level != "neighbourhood" else "" for key in keys], dtype=object),
        neighbourhoods=np.array([key[-1] for key in keys], dtype=object),
        crossings=[(key[1],) if level == "corner" else () for key in keys],
        latlon=np.stack([spherical_mean(addresses.latlon[each]) for each in rows]),
        num_points=np.array([addresses.num_points[each].sum() for each in rows], np.int64),
        lines=np.array([_union(addresses.lines[each]) for each in rows], dtype=object),
    )


def _coarse_text(level: str, key: tuple[str, ...]) -> str:
    if level == "street":
        return street_text(*key)
    return neighbourhood_text(*key) if level == "neighbourhood" else corner_text(*key[:2])


def _union(lines: Shaped[np.ndarray, "n"]) -> shapely.Geometry | None:
    known = lines[~shapely.is_missing(lines)]
    return shapely.multilinestrings(list(shapely.get_parts(known))) if len(known) else None


def within(addresses: Addresses, area: shapely.Geometry) -> Addresses:
    """Those whose middle lies in an area (degrees, longitude first); ``InputError`` where none does."""
    rows = np.flatnonzero(shapely.contains_xy(area, addresses.latlon[:, 1], addresses.latlon[:, 0]))
    if not len(rows):
        raise InputError(f"none of {len(addresses):,} addresses lies in the area; its longitude must come first")
    return addresses.take(rows)


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """How photos get their address by position alone; distances in metres.

    What is farther than ``max_m`` from every sub-street has none. Where a sub-street of another street is nearly as
    near, by ``clear_m`` or less, the photos within ``vote_m`` decide: the address that most have; without more votes
    for one than for any other, there is none.
    """

    max_m: float = 50.0
    clear_m: float = 5.0
    vote_m: float = 25.0


def nearest_addresses(latlon: Float64[np.ndarray, "n 2"], addresses: Addresses) -> Int64[np.ndarray, "n"]:
    """The row of the address whose course is nearest to each point (degrees), however far."""
    points = shapely.points(local_xy(latlon, addresses.center))
    return np.asarray(shapely.STRtree(addresses.local_lines).query_nearest(points, all_matches=False)[1], np.int64)


def distance_m(
    latlon: Float64[np.ndarray, "n 2"], rows: Int64[np.ndarray, "n"], addresses: Addresses
) -> Float64[np.ndarray, "n"]:
    """Metres from each point (degrees) to the course of the address in this row."""
    points = shapely.points(local_xy(latlon, addresses.center))
    return np.asarray(shapely.distance(points, addresses.local_lines[rows]))


def label_points(
    latlon: Float64[np.ndarray, "n 2"], addresses: Addresses, labelling: Labelling | None = None
) -> tuple[Int64[np.ndarray, "n"], dict[str, int]]:
    """The row of each photo's address, -1 for none, and how many photos each step has left."""
    rules = labelling or Labelling()
    points = shapely.points(local_xy(latlon, addresses.center))
    tree = shapely.STRtree(addresses.local_lines)
    (near, apart), row = tree.query_nearest(points, return_distance=True, all_matches=False), np.full(len(latlon), -1)
    row[near[0][apart <= rules.max_m]] = near[1][apart <= rules.max_m]
    distance = np.full(len(latlon), np.inf)
    distance[near[0]] = apart
    unclear = _unclear(points, row, distance, tree, addresses, rules)
    labels, undecided = _voted(local_xy(latlon, addresses.center), row, unclear, rules.vote_m)
    counts = {
        "photos": len(latlon), "too_far": int((row < 0).sum()), "unclear": int(unclear.sum()),
        "changed_by_vote": int((unclear & (labels >= 0) & (labels != row)).sum()), "undecided": undecided,
        "labelled": int((labels >= 0).sum()), "addresses_seen": len(np.unique(labels[labels >= 0])),
    }  # fmt: skip
    return labels, counts


def _unclear(
    points: Any, row: Int64[np.ndarray, "n"], distance: Float64[np.ndarray, "n"], tree: Any, addresses: Addresses,
    rules: Labelling,
) -> Shaped[np.ndarray, "n"]:  # fmt: skip
    """Which photos another street is nearly as near to."""
    photo, other = tree.query(points, predicate="dwithin", distance=np.minimum(distance, rules.max_m) + rules.clear_m)
    street = addresses.streets
    competing = (row[photo] >= 0) & (street[other] != street[row[photo]])
    unclear = np.zeros(len(row), bool)
    unclear[photo[competing]] = True
    return unclear


def _voted(
    xy: Float64[np.ndarray, "n 2"], row: Int64[np.ndarray, "n"], unclear: Shaped[np.ndarray, "n"], vote_m: float
) -> tuple[Int64[np.ndarray, "n"], int]:
    """The labels after the photos about each unclear one have voted, itself among them."""
    labels, undecided = row.copy(), 0
    asked = np.flatnonzero(unclear)
    for photo, voters in zip(asked, cKDTree(xy).query_ball_point(xy[asked], vote_m), strict=True):
        votes = Counter(row[voters][row[voters] >= 0].tolist()).most_common(2)
        if len(votes) > 1 and votes[0][1] == votes[1][1]:
            labels[photo] = -1
            undecided += 1
        else:
            labels[photo] = votes[0][0]
    return labels, undecided


def write_addresses(addresses: Addresses, path: Path) -> None:
    """Write them as GeoParquet, a row an address."""
    lines = pa.array([None if line is None else shapely.to_wkb(line) for line in addresses.lines], pa.binary())
    table = pa.table(
        {
            **dict(zip(TEXTS, (pa.array(values.tolist(), pa.string()) for values in _texts(addresses)), strict=True)),
            "crossings": pa.array([list(each) for each in addresses.crossings], pa.list_(pa.string())),
            "latitude": addresses.latlon[:, 0], "longitude": addresses.latlon[:, 1],
            "num_points": pa.array(addresses.num_points, pa.int64()), "geometry": lines,
        }
    )  # fmt: skip
    metadata = {b"geo": geoparquet_metadata(["MultiLineString"])}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def _texts(addresses: Addresses) -> tuple[Shaped[np.ndarray, "a"], ...]:
    return addresses.ids, addresses.texts, addresses.streets, addresses.neighbourhoods


def read_addresses(path: str | Path, file: Any = None) -> Addresses:
    """What ``write_addresses`` wrote, in a file of this path, or open; ``InputError`` where it is no such file."""
    with reading(path, "addresses"):
        table = pq.read_table(path if file is None else file)
    if missing := [
        n for n in (*TEXTS, "crossings", "latitude", "longitude", "geometry") if n not in table.column_names
    ]:
        raise InputError(f"{path} lacks the columns {missing}; {REMEDY}")
    texts = [np.array(table[name].to_pylist(), dtype=object) for name in TEXTS]
    return Addresses(
        ids=texts[0], texts=texts[1], streets=texts[2], neighbourhoods=texts[3],
        crossings=[tuple(each) for each in table["crossings"].to_pylist()],
        latlon=np.stack([table[name].to_numpy() for name in ("latitude", "longitude")], axis=1),
        num_points=table["num_points"].to_numpy(),
        lines=np.asarray(shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))),
    )  # fmt: skip
