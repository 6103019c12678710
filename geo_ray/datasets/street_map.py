"""Map tiles drawn from a street graph, at positions on its named streets: a learnable stand-in for street photos.

A tile is a view straight down on the streets about a position, without labels, with position, rotation, scale and style
drawn anew. It is no photo: what is learned from tiles says nothing of photos. Of each sub-street a stretch is held out,
so that no tile to validate or test on is nearer than ``Tiling.apart_m`` to one of that sub-street to train on.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from jaxtyping import Float64, Int, Shaped, UInt8
from PIL import Image, ImageDraw

from geo_ray.atlas.addresses import Addresses, read_addresses
from geo_ray.atlas.geoparquet import geoparquet_metadata, reading
from geo_ray.atlas.streets import StreetGraph, from_local_xy, local_lines
from geo_ray.errors import InputError

ADDRESSES = "addresses.parquet"  # what geo-ray address build writes, in one folder
STREETS = "streets.parquet"
SUPERSAMPLED = 2  # pixels that are drawn for each of a tile, on a side
# Ground, and the casing and fill of named and of other streets.
STYLES = (
    ((242, 239, 233), (200, 190, 180), (255, 255, 255), (225, 225, 225)),
    ((28, 30, 36), (10, 10, 12), (120, 125, 135), (70, 72, 80)),
    ((222, 232, 214), (150, 150, 140), (250, 224, 150), (235, 235, 225)),
    ((250, 250, 250), (90, 90, 90), (60, 60, 60), (170, 170, 170)),
    ((214, 226, 240), (120, 140, 170), (255, 250, 235), (190, 205, 225)),
    ((58, 70, 58), (30, 36, 30), (210, 200, 160), (110, 120, 105)),
)
COMPASS = ("from west to east", "from southwest to northeast", "from south to north", "from northwest to southeast")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How tiles are drawn; ``num_train``, ``num_validation`` and ``num_test`` are of each address.

    A tile shows ``width_m`` of ground, or up to ``jitter`` of that more or less, turned by up to ``rotation_degrees``,
    from a position up to ``offset_m`` beside the street. ``held_out`` is the share of a sub-street's length for
    validation and test, a half each, and ``apart_m`` what lies between these and the rest.
    """

    num_train: int = 60
    num_validation: int = 2
    num_test: int = 5
    size: int = 64
    width_m: float = 320.0
    jitter: float = 0.1
    rotation_degrees: float = 10.0
    offset_m: float = 5.0
    held_out: float = 0.2
    apart_m: float = 8.0
    seed: int = 0

    def count(self, split: str) -> int:
        """Tiles of each address in a split."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}[split]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One tile before it is drawn: id, split, number of the address, position, caption, and how it is drawn.

    The position is in degrees and in metres about the city's centre; ``seed`` is of the style.
    """

    tile_id: str
    split: str
    address: int
    latlon: Float64[np.ndarray, "2"]
    xy: Float64[np.ndarray, "2"]
    width_m: float
    turn: float
    size: int
    seed: tuple[int, ...]
    caption: str


@dataclass(frozen=True, kw_only=True)
class StreetMap:
    """The streets of a city as lines in metres about a centre, and its addresses."""

    addresses: Addresses
    lines: Shaped[np.ndarray, "e"]
    named: Shaped[np.ndarray, "e"]

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.lines)

    @cached_property
    def _courses(self) -> list[Float64[np.ndarray, "_ 2"]]:
        coordinates, line = shapely.get_coordinates(self.lines, return_index=True)
        return np.split(coordinates, np.flatnonzero(np.diff(line)) + 1)

    def positions(self, address: int, tiling: Tiling) -> Iterator[Tile]:
        """The tiles of one address, the same each time; of one whose course isn't known, none."""
        rng = np.random.default_rng((tiling.seed, address))
        course = shapely.line_merge(self.addresses.local_lines[address])
        parts = [part for part in shapely.get_parts(course) if part.length > 0]
        if not parts:
            return
        line = max(parts, key=lambda part: part.length)  # of two carriageways, one
        for split, stretches in held_out_stretches(line.length, tiling, rng).items():
            for number in range(tiling.count(split)):
                xy = _position(line, stretches, tiling, rng)
                yield Tile(
                    tile_id=f"tile-{address:05d}-{split}-{number:03d}",
                    split=split,
                    address=address,
                    latlon=from_local_xy(xy[None], self.addresses.center)[0],
                    xy=xy,
                    width_m=tiling.width_m * rng.uniform(1 - tiling.jitter, 1 + tiling.jitter),
                    turn=float(np.radians(rng.uniform(-tiling.rotation_degrees, tiling.rotation_degrees))),
                    size=tiling.size,
                    seed=(tiling.seed, address, SPLITS.index(split), number),
                    caption=self._caption(xy, tiling.width_m),
                )

    def drawn(self, tile: Tile) -> UInt8[np.ndarray, "size size 3"]:
        """A tile's streets, in a style by chance."""
        rng, side = np.random.default_rng(tile.seed), SUPERSAMPLED * tile.size
        seen = self._seen(tile.xy, tile.width_m)
        ground, casing, fill, other = (_shade(color, rng) for color in STYLES[rng.integers(len(STYLES))])
        image = Image.new("RGB", (side, side), ground)
        draw = ImageDraw.Draw(image)
        scale = side / tile.width_m
        thick = rng.uniform(0.8, 1.3) * 10 * scale  # a street is about 10 m wide
        sine, cosine = np.sin(tile.turn), np.cos(tile.turn)
        rotation = np.array([[cosine, sine], [-sine, cosine]]) * [[scale], [-scale]]  # rows of an image go south
        named = self.named[seen].tolist()
        courses = [((self._courses[row] - tile.xy) @ rotation.T + side / 2).ravel().tolist() for row in seen.tolist()]
        for factor, colors in ((1.4, (casing, casing)), (1.0, (other, fill))):
            for course, has_name in zip(courses, named, strict=True):
                width = factor * thick * (1.0 if has_name else 0.6)
                draw.line(course, fill=colors[has_name], width=max(1, round(width)), joint="curve")
        return np.asarray(image.reduce(SUPERSAMPLED))

    def _seen(self, xy: Float64[np.ndarray, "2"], width_m: float) -> Int[np.ndarray, "k"]:
        """The streets that a tile may show, however it is turned."""
        return np.sort(self._tree.query(shapely.box(*(xy - 0.75 * width_m), *(xy + 0.75 * width_m))))

    def _caption(self, xy: Float64[np.ndarray, "2"], width_m: float) -> str:
        """What a tile shows, in a sentence: its streets, and the course of the one in the middle."""
        seen = self._seen(xy, width_m)
        nearest = min(seen.tolist(), key=lambda row: float(shapely.distance(self.lines[row], shapely.Point(xy))))
        course = self._courses[nearest]
        east, north = course[-1] - course[0]
        way = COMPASS[int(np.round(np.degrees(np.arctan2(north, east)) % 180 / 45)) % 4]
        count = int(self.named[seen].sum())
        many = "few" if count < 12 else "many" if count > 30 else "some"
        bent = "a bent" if shapely.length(self.lines[nearest]) > 1.05 * np.hypot(east, north) else "a straight"
        return f"a map tile of {bent} street {way} among {many} others."


def held_out_stretches(length: float, tiling: Tiling, rng: np.random.Generator) -> dict[str, list[tuple[float, float]]]:
    """Where along a sub-street each split's positions lie, as stretches from and to in metres, never empty.

    What lies between is wider than ``apart_m`` only where the street is long enough to leave a third to train on.
    """
    held, apart = tiling.held_out * length, min(tiling.apart_m, length * (1 - tiling.held_out) / 3)
    start = rng.uniform(0, length - held)
    middle, stop = start + held / 2, start + held
    train = [(0.0, start - apart), (stop + apart, length)]
    return {
        "train": [(a, b) for a, b in train if b > a] or [(0.0, 0.0) if start >= length - stop else (length, length)],
        "validation": [(start, middle)],
        "test": [(middle, stop)],
    }


def _position(
    line: shapely.LineString, stretches: list[tuple[float, float]], tiling: Tiling, rng: np.random.Generator
) -> Float64[np.ndarray, "2"]:
    """A point of some stretches of a line, a little beside it."""
    lengths = np.array([b - a for a, b in stretches])
    at = rng.choice(len(stretches), p=lengths / lengths.sum()) if lengths.sum() > 0 else 0
    on_line = shapely.get_coordinates(line.interpolate(rng.uniform(*stretches[at])))[0]
    return np.asarray(on_line + rng.uniform(-tiling.offset_m, tiling.offset_m, 2))


def _shade(color: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(np.clip(value + rng.integers(-12, 13), 0, 255)) for value in color)


def write_streets(graph: StreetGraph, path: Path) -> None:
    """Write the lines of a graph with their names, as GeoParquet."""
    table = pa.table({
        "names": pa.array([list(names) for names in graph.names], pa.list_(pa.string())),
        "geometry": pa.array(shapely.to_wkb(graph.lines), pa.binary()),
    })  # fmt: skip
    metadata = {b"geo": geoparquet_metadata(["LineString"])}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")


def open_street_map(folder: str | Path) -> StreetMap:
    """The streets and addresses in a folder that ``geo-ray address build`` wrote."""
    folder = Path(folder)
    if not (folder / STREETS).is_file():
        raise InputError(f"{folder} holds no {STREETS}; make the folder with geo-ray address build")
    addresses = read_addresses(folder / ADDRESSES)
    with reading(folder / STREETS, "streets"):
        table = pq.read_table(folder / STREETS)
    lines = np.asarray(shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False)))
    named = np.array([bool(names) for names in table["names"].to_pylist()])
    return StreetMap(addresses=addresses, lines=local_lines(lines, addresses.center), named=named)


def encode_png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """One tile as PNG, which suits lines and flat colours."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
