"""A picture of geocells: the world and a zoom coloured by the number of training points, and the sizes' histogram."""

import io
import math
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from jaxtyping import Int, Shaped
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import Colormap, LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from geo_ray.atlas.world import world
from geo_ray.cells.describe import size_histogram
from geo_ray.cells.partition import CellSizes, Partition
from geo_ray.evaluation.map_views import Bounds, View, equal_earth, world_view, zoom_view

WIDTH, HEIGHT, DPI = 12.0, 12.2, 100  # inches, and pixels an inch
PIXELS = round(WIDTH * DPI), round(HEIGHT * DPI)
INK, SOFT, LINE = "#1d2429", "#5a666e", "#b9bfc2"
SEA, LAND, EMPTY = "#f1f5f6", "#e6e5df", "#bfc3c4"
COLOURS: Colormap = colormaps["viridis_r"]  # uniform to the eye, also without colour; dark is many
COVERS_LAND, COVERS_SEA = 0.25, 0.5  # of the Earth: land is 0.29, without Antarctica 0.26
BARS_WITHIN = 6  # of the histogram, from the least to the most points that a cell may hold


def summary(partition: Partition) -> str:
    """How many cells and points there are, and the limits."""
    sizes = partition.sizes
    return (
        f"{len(partition):,} cells with {partition.counts.sum():,} training points, "
        f"built for {sizes.min_size:,} to {sizes.max_size:,} points a cell"
    )


def cells_png(partition: Partition, *, title: str = "Geocells", zoom: Bounds | str = "europe") -> bytes:
    """A PNG of 1200 x 1220 pixels: the cells of the world, those of a zoom, and how many points they hold.

    A cell's colour is its number of training points on a logarithmic scale that is laid out by the limits, so that
    pictures of partitions for the same limits compare; a cell without points is grey. ``zoom`` is ``europe``, a country
    code of the partition, or bounds in degrees: what ``map_views.zoom_view`` takes, or ``InputError``.
    """
    zoomed = zoom_view(partition, zoom)
    scale = ScalarMappable(_norm(partition.sizes), COLOURS)
    covered = _covered_share(partition)
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    _write(figure, 0.3, HEIGHT - 0.38, title, size=19, weight="bold")
    _write(figure, 0.3, HEIGHT - 0.72, summary(partition), size=13, color=SOFT)
    _draw_map(_axes(figure, 0.3, 5.85, 11.4, 5.4), world_view(), partition, scale, covered)
    _draw_scale(figure, partition.sizes, scale)
    _draw_map(_axes(figure, 0.3, 0.3, 6.5, 4.75), zoomed, partition, scale, covered)
    _draw_classes(figure, partition, scale)
    _draw_histogram(_axes(figure, 7.75, 0.85, 3.95, 2.55), partition, scale)
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _norm(sizes: CellSizes) -> LogNorm:
    """From a fifth of the least to five times the most points."""
    return LogNorm(max(1.0, sizes.min_size / 5), 5 * sizes.max_size, clip=True)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at this place, in inches."""
    return figure.add_axes((left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))


def _write(figure: Figure, left: float, bottom: float, text: str, **style: Any) -> None:
    """Text at this place, in inches, centred on its height."""
    drawn = figure.text(left / WIDTH, bottom / HEIGHT, text, size=11.5, color=INK, va="center", parse_math=False)
    drawn.set(**style)


def _draw_map(axes: Axes, view: View, partition: Partition, scale: ScalarMappable, covered: float) -> None:
    """The cells in a view; ``covered`` is the share of the Earth that all cells cover."""
    panel = axes.get_window_extent()
    view = view.filled_to(panel.width, panel.height)
    left, bottom, right, top = view.extent
    pixel = (right - left) / panel.width
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="white" if view.whole else SEA)
    axes.spines[:].set(visible=not view.whole, color=LINE)
    if view.whole:
        axes.add_patch(PathPatch(_outlines(view.polygons(_everywhere()), pixel)[0], facecolor=SEA, edgecolor=LINE))
    land = _outlines(view.polygons(_land()), pixel)
    if covered < COVERS_LAND:  # else it would be seen only where its coast is coarser than the cells'
        axes.add_collection(PathCollection(land, facecolors=LAND), autolim=False)
    shapes = view.polygons(partition.polygons)
    seen = ~shapely.is_empty(shapes)
    colours = np.where((partition.counts > 0)[:, None], scale.to_rgba(partition.counts.clip(1)), to_rgba(EMPTY))[seen]
    cells = PathCollection(_outlines(shapes[seen], pixel), facecolors=colours, edgecolors="white")
    cells.set_linewidth(0.15 if view.whole else 0.4)
    axes.add_collection(cells, autolim=False)
    if covered > COVERS_SEA:
        borders = [view.line(line) for line in world().borders]
        axes.add_collection(PathCollection(land, facecolors="none", edgecolors=INK, linewidths=0.5), autolim=False)
        axes.add_collection(LineCollection(borders, colors=INK, linewidths=0.3), autolim=False)


def _outlines(polygons: Shaped[np.ndarray, "p"], pixel: float) -> list[Outline]:
    """A path for each polygon, with its parts and holes, and without detail below a third of a pixel.

    Holes run the other way around, or they would be filled. Points are moved to a grid rather than left out, so that
    neighbours keep a common border.
    """
    parts, cell = shapely.get_parts(shapely.orient_polygons(polygons), return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    coords, ring = shapely.get_coordinates(rings, return_index=True)
    coords = np.round(coords * (3 / pixel)) * (pixel / 3)
    stays = np.append(True, (coords[1:] != coords[:-1]).any(axis=1) | (ring[1:] != ring[:-1]))[: len(coords)]
    coords, ring = coords[stays], ring[stays]
    codes = np.full(len(coords), Outline.LINETO, Outline.code_type)
    first = np.append(True, ring[1:] != ring[:-1])[: len(coords)]
    codes[first] = Outline.MOVETO
    codes[np.append(first[1:], True)[: len(coords)] & ~first] = Outline.CLOSEPOLY
    ends = np.searchsorted(cell[part[ring]], np.arange(len(polygons) + 1))
    return [Outline(coords[a:b], codes[a:b]) for a, b in pairwise(ends)]


def _land() -> Shaped[np.ndarray, "p"]:
    rings = shapely.multilinestrings([shapely.LineString(ring[:, ::-1]) for ring in world().land])
    return np.asarray(shapely.get_parts(shapely.build_area(rings)))


def _everywhere() -> Shaped[np.ndarray, "1"]:
    return np.array([shapely.box(-180, -90, 180, 90)])


def _covered_share(partition: Partition) -> float:
    """The share of the Earth that the cells cover."""
    projected = shapely.transform(shapely.segmentize(partition.polygons, 5.0), equal_earth)
    return float(shapely.area(projected).sum() / (4 * math.pi))


def _draw_scale(figure: Figure, sizes: CellSizes, scale: ScalarMappable) -> None:
    """The colour bar, with the limits, their halves and doubles, fifths and fivefolds."""
    least, most = sizes.min_size, sizes.max_size
    ticks = np.unique([max(1, round(n)) for n in (least / 5, least / 2, least, most, 2 * most, 5 * most)])
    bar = figure.colorbar(scale, cax=_axes(figure, 3.9, 5.52, 4.8, 0.16), orientation="horizontal", extend="both")
    bar.set_ticks(ticks.tolist(), labels=[f"{n:,}" for n in ticks])
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=11, color=SOFT, labelcolor=INK)
    bar.outline.set_edgecolor(LINE)
    _write(figure, 3.5, 5.6, "training points in a cell", ha="right")


def _draw_classes(figure: Figure, partition: Partition, scale: ScalarMappable) -> None:
    """The table of ``size_histogram`` with each class's colour."""
    least, most = partition.sizes.min_size, partition.sizes.max_size
    colours = scale.to_rgba(np.array([least / 3, math.sqrt(least * most), most * math.sqrt(2), 4 * most]))
    _write(figure, 7.2, 4.9, "Training points in a cell", weight="bold")
    _write(figure, 10.75, 4.9, "cells", ha="right", color=SOFT)
    rows = zip(size_histogram(partition).items(), [EMPTY, *colours], strict=True)
    for number, ((name, count), colour) in enumerate(rows):
        y, weight = 4.62 - 0.23 * number, "bold" if number == 2 else "normal"
        place = 7.2 / WIDTH, (y - 0.07) / HEIGHT
        figure.add_artist(Rectangle(place, 0.2 / WIDTH, 0.14 / HEIGHT, facecolor=colour))
        _write(figure, 7.5, y, name, weight=weight)
        _write(figure, 10.75, y, f"{count:,}", ha="right", weight=weight)
        _write(figure, 11.65, y, f"{100 * count / len(partition):.1f} %", ha="right", weight=weight)


def _draw_histogram(axes: Axes, partition: Partition, scale: ScalarMappable) -> None:
    """Cells by their number of points, in the maps' colours; the limits have a ground of their own."""
    counts, sizes = partition.counts[partition.counts > 0], partition.sizes
    edges = bar_edges(sizes, int(counts.max(initial=1)))
    middles = np.sqrt(edges[:-1] * (edges[1:] - 1.0))
    axes.axvspan(sizes.min_size - 0.5, sizes.max_size + 0.5, color=SEA, zorder=0)
    bars = axes.bar(
        edges[:-1] - 0.5, np.histogram(counts, edges)[0], np.diff(edges), align="edge", color=scale.to_rgba(middles)
    )
    for bar in bars:
        bar.set(edgecolor="white", linewidth=0.4)
    left, right = min(counts.min(initial=sizes.min_size), sizes.min_size / 2), edges[-1]
    axes.set(xscale="log", xlim=(max(left, 1) - 0.5, right - 0.5))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if right < 50 * left else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(_whole))
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_whole))
    axes.set_xlabel("training points in a cell", size=11.5, color=INK)
    axes.set_ylabel("cells", size=11.5, color=INK)
    axes.tick_params(labelsize=11, color=LINE, labelcolor=INK, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)


def _whole(value: float, _: int | None) -> str:
    return f"{value:,.0f}"


def bar_edges(sizes: CellSizes, most: int) -> Int[np.ndarray, "b"]:
    """Whole numbers at about equal ratios from 1 to above ``most``: where the bars begin; the limits are among them."""
    within = np.geomspace(sizes.min_size, sizes.max_size + 1, BARS_WITHIN + 1)
    ratio = max(within[1] / within[0], 1.1)
    below = sizes.min_size / ratio ** np.arange(1, np.log(sizes.min_size) / np.log(ratio) + 1)
    above = within[-1] * ratio ** np.arange(1, np.log(max(most / within[-1], 2.0)) / np.log(ratio) + 2)
    return np.unique(np.round(np.concatenate([[1], below, within, above])).astype(np.int64).clip(1))
