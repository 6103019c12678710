"""Streets of a city, and the sub-streets that crossings cut them into (AddressCLIP, arXiv 2407.08156, 3.2).

A street is what is connected of the edges of one name. It is cut at its crossings with streets of other names; what
crosses it too near to another crossing doesn't cut it. Pieces with too few points join the next one of their street.
Each named edge is in one sub-street.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float64, Int, Int64, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from geo_ray.errors import InputError
from geo_ray.geo.sphere import check_latlon, destination, offsets_km, spherical_mean


@dataclass(frozen=True, kw_only=True)
class StreetGraph:
    """Nodes (degrees) with the neighbourhood of each, empty where it isn't known, and the edges between them.

    ``ends`` are rows of nodes, ``names`` the names of an edge, of which there may be none or several, and ``lines`` its
    course in degrees, longitude first.
    """

    latlon: Float64[np.ndarray, "n 2"]
    neighbourhoods: Shaped[np.ndarray, "n"]
    ends: Int64[np.ndarray, "e 2"]
    names: Sequence[tuple[str, ...]]
    lines: Shaped[np.ndarray, "e"]
    source: str = ""

    def __post_init__(self) -> None:
        check_latlon(self.latlon, f"nodes of {self.source or 'the street graph'}")
        if not any(self.names):
            raise InputError(
                f"{self.source or 'the street graph'}: none of its {len(self.names):,} edges has a name, so nothing "
                "has an address; name the column of street names with --name-column"
            )

    @property
    def center(self) -> Float64[np.ndarray, "2"]:
        """The middle of the nodes, degrees, about which the city is flat."""
        return spherical_mean(self.latlon)


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How streets are cut; distances in metres.

    Parts of one name that come within ``join_m`` of each other are one street, and what crosses it is one crossing
    where the same street crosses both within ``same_m``, as it does the two carriageways of an avenue. A crossing
    nearer than ``near_m`` to another doesn't cut. Sub-streets of fewer than ``min_points`` points are merged; where no
    points are given, there is one every ``spacing_m``.
    """

    join_m: float = 30.0
    same_m: float = 40.0
    near_m: float = 25.0
    min_points: int = 5
    spacing_m: float = 10.0

    def __post_init__(self) -> None:
        for name in ("join_m", "same_m", "near_m"):
            if not 0 <= getattr(self, name) < 1000:
                raise ValueError(f"{name}={getattr(self, name)} must be from 0 to below 1000 metres")
        if self.min_points < 0 or not self.spacing_m > 0:
            raise ValueError(f"min_points={self.min_points} must be from 0, and spacing_m={self.spacing_m} above 0")


@dataclass(frozen=True, kw_only=True)
class SubStreets:
    """Sub-streets in the order of their streets' names.

    ``edges`` are rows of the graph, ``crossings`` the names of the streets at its two ends, at one, or at none;
    ``streets`` numbers of the streets that they are cut from.
    """

    names: Shaped[np.ndarray, "s"]
    streets: Int64[np.ndarray, "s"]
    edges: Sequence[Int64[np.ndarray, "_"]]
    crossings: Sequence[tuple[str, ...]]
    num_points: Int64[np.ndarray, "s"]
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(eq=False)
class _Piece:
    """A part of a street while it is cut: its edges, and the crossings that it ends at."""

    edges: list[int]
    ends: set[int]
    points: int


@dataclass(frozen=True, kw_only=True)
class _Crossing:
    """Where a street is crossed: middle in metres, nodes, and how often each other street's name is there."""

    xy: Float64[np.ndarray, "2"]
    nodes: list[int]
    names: "Counter[str]"


def cut_streets(
    graph: StreetGraph, cutting: Cutting | None = None, points: Float64[np.ndarray, "p 2"] | None = None
) -> SubStreets:
    """The sub-streets of a graph; ``points`` (degrees) are of photos, each counted on the nearest edge."""
    cutting = cutting or Cutting()
    xy, lines = local_xy(graph.latlon, graph.center), local_lines(graph.lines, graph.center)
    main = main_names(graph)
    street_of = _streets(graph, main, xy, cutting.join_m)
    weights = _points_of_edges(lines, street_of, cutting, None if points is None else local_xy(points, graph.center))
    others = _names_at_nodes(graph, main, street_of)
    counts: Counter[str] = Counter()
    found: list[tuple[str, int, _Piece, tuple[str, ...]]] = []
    by_street = _grouped(street_of)
    for street, edges in enumerate(by_street):
        name = main[edges[0]]
        nodes = np.unique(graph.ends[edges])
        crossings, dropped = _crossings({n: others[n, name] for n in nodes.tolist()}, xy, cutting)
        pieces = _cut(edges, graph.ends, crossings, weights)
        counts["dropped_crossings"] += dropped
        counts["crossings"] += len(crossings)
        pieces, parallel = _with_parallel(pieces, lines, cutting.join_m)
        counts["parallel_merged"] += parallel
        gaps = _gaps(pieces, lines, cutting.join_m)
        pieces, merged = _without_short(pieces, gaps, cutting.min_points)
        counts["short_merged"] += merged
        counts["short_left"] += sum(piece.points < cutting.min_points for piece in pieces)
        found += [(name, street, piece, _names_at_ends(piece, crossings)) for piece in pieces]
    found.sort(key=lambda entry: (entry[0], entry[1], min(entry[2].edges)))
    return SubStreets(
        names=np.array([entry[0] for entry in found], dtype=object),
        streets=np.array([entry[1] for entry in found], np.int64),
        edges=[np.array(sorted(entry[2].edges), np.int64) for entry in found],
        crossings=[entry[3] for entry in found],
        num_points=np.array([entry[2].points for entry in found], np.int64),
        counts={"edges": len(graph.names), "named_edges": int((street_of >= 0).sum()), "streets": len(by_street),
                **counts, "sub_streets": len(found)},
    )  # fmt: skip


def local_xy(latlon: Float64[np.ndarray, "n 2"], center: Float64[np.ndarray, "2"]) -> Float64[np.ndarray, "n 2"]:
    """East and north of a city's centre in metres; UTM zones and the antimeridian don't matter."""
    return offsets_km(center, latlon) * 1000


def from_local_xy(xy: Float64[np.ndarray, "n 2"], center: Float64[np.ndarray, "2"]) -> Float64[np.ndarray, "n 2"]:
    """Degrees of what ``local_xy`` answers."""
    return destination(np.broadcast_to(center, xy.shape), xy[:, 0] / 1000, xy[:, 1] / 1000)


def local_lines(lines: Shaped[np.ndarray, "e"], center: Float64[np.ndarray, "2"]) -> Shaped[np.ndarray, "e"]:
    """Lines in degrees, longitude first, as lines in metres about a centre."""
    return np.asarray(shapely.transform(lines, lambda lonlat: local_xy(lonlat[:, ::-1].astype(np.float64), center)))


def main_names(graph: StreetGraph) -> Shaped[np.ndarray, "e"]:
    """One name for each edge, empty where it has none: of several, the one that goes on at most of its ends."""
    at_node: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for (a, b), names in zip(graph.ends.tolist(), graph.names, strict=True):
        for node in {a, b}:
            at_node[node].update(names)
    main = np.full(len(graph.names), "", dtype=object)
    for row, (ends, names) in enumerate(zip(graph.ends.tolist(), graph.names, strict=True)):
        if names:
            going_on = [sum(at_node[node][name] > 1 for node in set(ends)) for name in names]
            main[row] = names[int(np.argmax(going_on))]
    return main


def _streets(
    graph: StreetGraph, main: Shaped[np.ndarray, "e"], xy: Float64[np.ndarray, "n 2"], join_m: float
) -> Int64[np.ndarray, "e"]:
    """The number of each edge's street, by name; -1 where it has none."""
    street_of, count = np.full(len(main), -1, np.int64), 0
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(main):
        if name:
            rows_of[name].append(row)
    for _, rows in sorted(rows_of.items()):
        nodes, at = np.unique(graph.ends[rows], return_inverse=True)
        links = np.concatenate([at.reshape(-1, 2), cKDTree(xy[nodes]).query_pairs(join_m, output_type="ndarray")])
        parts = _components(links, len(nodes))
        _, numbers = np.unique(parts[at.reshape(-1, 2)[:, 0]], return_inverse=True)
        street_of[rows] = count + numbers
        count += int(numbers.max()) + 1
    return street_of


def _components(links: Int[np.ndarray, "m 2"], count: int) -> Int[np.ndarray, "n"]:
    ones = np.ones(len(links), np.int8)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def _grouped(numbers: Int64[np.ndarray, "e"]) -> list[list[int]]:
    """Rows by number, from 0."""
    groups: list[list[int]] = [[] for _ in range(int(numbers.max(initial=-1)) + 1)]
    for row in np.flatnonzero(numbers >= 0).tolist():
        groups[numbers[row]].append(row)
    return groups


def _points_of_edges(
    lines: Shaped[np.ndarray, "e"],
    street_of: Int64[np.ndarray, "e"],
    cutting: Cutting,
    points: Float64[np.ndarray, "p 2"] | None,
) -> Float64[np.ndarray, "e"]:
    """How many points each edge has: those nearest to it, or one for so many metres of it."""
    if points is None:
        return np.asarray(shapely.length(lines) / cutting.spacing_m)
    named = np.flatnonzero(street_of >= 0)
    nearest = shapely.STRtree(lines[named]).query_nearest(shapely.points(points), all_matches=False)[1]
    return np.bincount(named[nearest], minlength=len(lines)).astype(np.float64)


class _NamesAtNodes:
    """Names of the streets that meet at nodes, each as often as edges bring it."""

    def __init__(self) -> None:
        self._at: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def add(self, node: int, name: str) -> None:
        self._at[node][name] += 1

    def __getitem__(self, key: tuple[int, str]) -> "Counter[str]":
        """Those at a node but for one name."""
        node, name = key
        return Counter({other: count for other, count in self._at[node].items() if other != name})


def _names_at_nodes(
    graph: StreetGraph, main: Shaped[np.ndarray, "e"], street_of: Int64[np.ndarray, "e"]
) -> _NamesAtNodes:
    found = _NamesAtNodes()
    for row in np.flatnonzero(street_of >= 0).tolist():
        for node in graph.ends[row].tolist():
            found.add(node, main[row])
    return found


def _crossings(
    at_nodes: dict[int, "Counter[str]"], xy: Float64[np.ndarray, "n 2"], cutting: Cutting
) -> tuple[list[_Crossing], int]:
    """The crossings that cut a street, and how many were dropped; those of more edges go before others."""
    crossings: list[_Crossing] = []
    dropped = 0
    for node in sorted((n for n, names in at_nodes.items() if names), key=lambda n: (-at_nodes[n].total(), n)):
        names = at_nodes[node]
        apart = [float(np.hypot(*(crossing.xy - xy[node]))) for crossing in crossings]
        order = sorted(range(len(crossings)), key=apart.__getitem__)
        same = next((n for n in order if apart[n] <= cutting.same_m and crossings[n].names & names), None)
        if same is not None:
            crossings[same].nodes.append(node)
            crossings[same].names.update(names)
        elif order and apart[order[0]] < cutting.near_m:
            dropped += 1
        else:
            crossings.append(_Crossing(xy=xy[node], nodes=[node], names=Counter(names)))
    return crossings, dropped


def _cut(
    edges: list[int],
    ends: Int64[np.ndarray, "e 2"],
    crossings: list[_Crossing],
    weights: Float64[np.ndarray, "e"],
) -> list[_Piece]:
    """The parts of a street that hang together without its crossings."""
    crossing_of = {node: number for number, crossing in enumerate(crossings) for node in crossing.nodes}
    number_of: dict[int | tuple[int, int], int] = {}  # an end at a crossing is each edge's own
    links = np.array(
        [
            [number_of.setdefault((edge, node) if node in crossing_of else node, len(number_of)) for node in both]
            for edge, both in zip(edges, ends[edges].tolist(), strict=True)
        ]
    )
    parts = _components(links, len(number_of))[links[:, 0]]
    pieces: dict[int, _Piece] = {}
    for edge, part in zip(edges, parts.tolist(), strict=True):
        piece = pieces.setdefault(part, _Piece([], set(), 0))
        piece.edges.append(edge)
        piece.ends |= {crossing_of[node] for node in ends[edge].tolist() if node in crossing_of}
    for piece in pieces.values():
        piece.points = int(weights[piece.edges].sum() + 1e-6)  # what rounding takes from a whole number
    return list(pieces.values())


def _with_parallel(pieces: list[_Piece], lines: Shaped[np.ndarray, "e"], join_m: float) -> tuple[list[_Piece], int]:
    """The pieces with those as one that lie beside each other between the same crossings: carriageways."""
    kept: list[_Piece] = []
    by_ends: defaultdict[frozenset[int], list[_Piece]] = defaultdict(list)
    for piece in pieces:
        beside = next(
            (other for other in by_ends[frozenset(piece.ends)] if len(piece.ends) > 1
             and shapely.hausdorff_distance(_course(piece, lines), _course(other, lines)) <= join_m), None
        )  # fmt: skip
        if beside is None:
            by_ends[frozenset(piece.ends)].append(piece)
            kept.append(piece)
        else:
            beside.edges += piece.edges
            beside.points += piece.points
    return kept, len(pieces) - len(kept)


def _course(piece: _Piece, lines: Shaped[np.ndarray, "e"]) -> shapely.MultiLineString:
    return shapely.multilinestrings(list(lines[piece.edges]))


def _gaps(pieces: list[_Piece], lines: Shaped[np.ndarray, "e"], join_m: float) -> set[frozenset[int]]:
    """Pairs of pieces (by ``id``) that come near each other without a common crossing, as beyond a gap."""
    courses = [_course(piece, lines) for piece in pieces]
    if len(courses) < 2:
        return set()
    one, other = shapely.STRtree(courses).query(courses, predicate="dwithin", distance=join_m)
    pairs = ((pieces[a], pieces[b]) for a, b in zip(one.tolist(), other.tolist(), strict=True) if a < b)
    return {frozenset((id(a), id(b))) for a, b in pairs if not a.ends & b.ends}


def _without_short(pieces: list[_Piece], gaps: set[frozenset[int]], min_points: int) -> tuple[list[_Piece], int]:
    """The pieces of a street after the short ones, shortest first, have joined the shortest one beside them."""
    left, merged = list(pieces), 0
    beyond: defaultdict[int, set[int]] = defaultdict(set)
    for a, b in gaps:
        beyond[a].add(b)
        beyond[b].add(a)
    alone: set[int] = set()
    while short := [piece for piece in left if piece.points < min_points and id(piece) not in alone]:
        piece = min(short, key=lambda each: (each.points, min(each.edges)))
        beside = [p for p in left if p is not piece and (p.ends & piece.ends or id(p) in beyond[id(piece)])]
        if not beside:
            alone.add(id(piece))
            continue
        other = min(beside, key=lambda each: (each.points, min(each.edges)))
        left.remove(piece)
        held = set().union(*(each.ends for each in left if each is not other))
        inner = (piece.ends & other.ends) - held
        other.ends = (piece.ends | other.ends) - inner or piece.ends | other.ends
        other.edges += piece.edges
        other.points += piece.points
        for far in beyond.pop(id(piece), set()) - {id(other)}:
            beyond[far].add(id(other))
            beyond[id(other)].add(far)
        alone.discard(id(other))
        merged += 1
    return left, merged


def _names_at_ends(piece: _Piece, crossings: list[_Crossing]) -> tuple[str, ...]:
    """Names at the two ends that are farthest apart, in alphabetical order; the second is another where one can be."""
    ends = sorted(piece.ends)
    if len(ends) > 2:
        places = np.array([crossings[end].xy for end in ends])
        apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
        a, b = np.unravel_index(int(apart.argmax()), apart.shape)
        ends = [ends[int(a)], ends[int(b)]]
    names: list[str] = []
    for end in ends:
        ranked = sorted(crossings[end].names.items(), key=lambda pair: (-pair[1], pair[0]))
        names += [next((name for name, _ in ranked if name not in names), ranked[0][0])]
    return tuple(sorted(set(names)))


def middle_of(lines: Shaped[np.ndarray, "n"]) -> shapely.Point:
    """A point on some lines, half way along where they are one, and else the nearest to their middle."""
    whole = shapely.line_merge(shapely.multilinestrings(list(lines)))
    if whole.is_empty:  # a loop whose course isn't known has no length
        return shapely.get_point(lines[0], 0)
    if isinstance(whole, shapely.LineString):
        return whole.interpolate(0.5, normalized=True)
    return shapely.get_point(shapely.shortest_line(whole, whole.centroid), 0)
