"""Semantic geocells: administrative areas fused and split until their points are neither too few nor too many."""

import zlib
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64

from geo_ray.atlas.areas import Areas
from geo_ray.atlas.boundaries import Boundaries
from geo_ray.cells.frame import Frame
from geo_ray.cells.fuse import fuse
from geo_ray.cells.hierarchy import Cell, Country, countries, dissolved, first_cells
from geo_ray.cells.partition import NO_NEIGHBOUR, NO_POINTS, ON_BORDER, CellSizes, Partition, from_polygons
from geo_ray.cells.split import Splitting, split
from geo_ray.errors import InputError
from geo_ray.geo.sphere import check_latlon


@dataclass(frozen=True, kw_only=True)
class Semantic:
    """The settings of a build: sizes, how large cells are split, and the seed of the order in which small ones fuse."""

    sizes: CellSizes = field(default_factory=CellSizes)
    splitting: Splitting = field(default_factory=Splitting)
    seed: int = 330


PARAMETERS = {
    "pigeon": Semantic(),
    "pigeotto": Semantic(
        sizes=CellSizes(min_size=1000, max_size=2000),
        splitting=Splitting(schedule=((300, 0.05), (400, 0.005), (1000, 0.0001))),
    ),
}


def with_sizes(name: str, min_size: int | None, max_size: int | None, seed: int) -> Semantic:
    """A parameter set of the papers, ``pigeon`` or ``pigeotto``, with one's own limits of the sizes."""
    semantic = PARAMETERS[name]
    low = semantic.sizes.min_size if min_size is None else min_size
    high = semantic.sizes.max_size if max_size is None else max_size
    if not 1 <= low <= high:
        raise InputError(f"cells of {low} to {high} points can't be; give a min-size from 1 to the max-size")
    return replace(semantic, sizes=CellSizes(min_size=low, max_size=high), seed=seed)


def fuse_country(country: Country, semantic: Semantic) -> list[Cell]:
    """A country's cells, none too small that has a neighbour; a country without points is one cell."""
    frame = Frame.about(country.polygons, country.latlon)
    shapes, admin_1, cells = first_cells(country, frame)
    rng = np.random.default_rng((semantic.seed, zlib.crc32(country.code.encode())))
    group = fuse(shapes, np.bincount(cells, minlength=len(shapes)), admin_1, semantic.sizes.min_size, rng)
    names, number = np.unique(group, return_inverse=True)
    polygons = frame.on_earth(dissolved(shapes, number))
    rows = [np.flatnonzero(number[cells] == cell) for cell in range(len(names))]
    return [
        Cell(
            country=country.code,
            admin_1=admin_1[name],
            polygon=polygon,
            rows=country.rows[inside],
            latlon=country.latlon[inside],
        )
        for name, polygon, inside in zip(names, polygons, rows, strict=True)
    ]


def split_cell(cell: Cell, semantic: Semantic) -> list[Cell]:
    """The cells that a large one splits into; itself where it is small enough or cannot be split."""
    if len(cell.rows) <= semantic.sizes.max_size:
        return [cell]
    frame = Frame.about(np.array([cell.polygon], dtype=object), cell.latlon)
    shape = frame.polygons(np.array([cell.polygon], dtype=object))[0]
    pieces = split(shape, frame.points(cell.latlon), semantic.sizes, semantic.splitting)
    polygons = frame.on_earth(np.array([piece.shape for piece in pieces], dtype=object))
    return [
        replace(cell, polygon=polygon, rows=cell.rows[piece.rows], latlon=cell.latlon[piece.rows])
        for polygon, piece in zip(polygons, pieces, strict=True)
    ]


def assemble(cells: list[Cell], latlon: Float64[np.ndarray, "n 2"], semantic: Semantic) -> Partition:
    """The partition of these cells, which are in order of country, with counts and centres of all points."""
    polygons = np.array([cell.polygon for cell in cells], dtype=object)
    codes = np.array([cell.country for cell in cells], dtype=object)
    first = np.append(True, codes[1:] != codes[:-1])
    within = np.arange(len(cells)) - np.maximum.accumulate(np.where(first, np.arange(len(cells)), 0))
    partition = from_polygons(
        polygons,
        latlon,
        Areas(polygons).locate(latlon).areas,
        semantic.sizes,
        cell_ids=np.array([f"{code}-{number:04d}" for code, number in zip(codes, within, strict=True)], dtype=object),
        countries=codes,
        admin_1=np.array([cell.admin_1 for cell in cells], dtype=object),
    )
    reasons = partition.reasons.copy()
    reasons[(reasons == NO_NEIGHBOUR) & (partition.counts == 0)] = NO_POINTS
    built = np.array([len(cell.rows) for cell in cells])
    reasons[(reasons != "") & (built >= semantic.sizes.min_size) & (built <= semantic.sizes.max_size)] = ON_BORDER
    return replace(partition, reasons=reasons)


def build_semantic(boundaries: Boundaries, latlon: Float64[np.ndarray, "n 2"], semantic: Semantic) -> Partition:
    """The semantic geocells of these points (degrees), in this process: what ``remote.cell_tasks`` does in parallel."""
    check_points(latlon)
    fused = [cell for country in countries(boundaries, latlon) for cell in fuse_country(country, semantic)]
    return assemble([part for cell in fused for part in split_cell(cell, semantic)], latlon, semantic)


def check_points(latlon: Float64[np.ndarray, "n 2"]) -> None:
    """Raise ``ValueError`` where there are no points, or some that are not degrees in range."""
    if len(latlon) == 0:
        raise ValueError("no training points to build cells from")
    check_latlon(latlon)
