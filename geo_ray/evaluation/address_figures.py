"""Pictures of a city's addresses: its sub-streets, and how like a text each is (AddressCLIP, arXiv 2407.08156)."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Float64, Shaped
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from geo_ray.atlas.addresses import Addresses
from geo_ray.atlas.streets import local_lines
from geo_ray.evaluation.pages import page, write_page

WIDTH, HEIGHT = 8.0, 8.0  # inches
QUIET = "#c9ccd1"  # of streets that aren't asked about
COLORS = "tab20"
HEAT = "inferno_r"
SVG_SIDE = 900
LISTED = 10  # of the addresses that are most like a text


def draw_addresses(lines: Shaped[np.ndarray, "e"], addresses: Addresses, path: Path) -> None:
    """A picture of the sub-streets, each in another colour than those beside it, among all streets."""
    figure, axes = _canvas(f"{len(addresses):,} sub-streets")
    _add(axes, local_lines(lines, addresses.center), QUIET, 0.4)
    palette = colormaps[COLORS]
    colors = [palette((7 * row) % palette.N) for row in range(len(addresses))]
    _add(axes, addresses.local_lines, colors, 1.4)
    _frame(axes, addresses)
    figure.savefig(path, dpi=160, bbox_inches="tight")


def draw_heat(
    values: Float64[np.ndarray, "a"], addresses: Addresses, lines: Shaped[np.ndarray, "e"], query: str, path: Path,
    lead: str,
) -> None:  # fmt: skip
    """A picture of how like a text each address is (cosines), and the same as a page beside it, ``path``.html.

    The page is a file of its own, with the addresses' names where one points.
    """
    order = np.argsort(-values, kind="stable")
    figure, axes = _canvas(f"“{query}”")
    _add(axes, local_lines(lines, addresses.center), QUIET, 0.4)
    scale = Normalize(float(np.quantile(values, 0.5)), float(values.max()) + 1e-9, clip=True)
    heat = colormaps[HEAT]
    shown = order[::-1]  # the most like on top
    courses = addresses.local_lines
    _add(axes, courses[shown], [heat(scale(values[row])) for row in shown.tolist()], 2.2)
    figure.colorbar(ScalarMappable(scale, heat), ax=axes, shrink=0.6, label="similarity (cosine)")
    _frame(axes, addresses)
    figure.savefig(path, dpi=160, bbox_inches="tight")
    listed = "".join(
        f"<tr><td>{escape(str(addresses.texts[row]))}</td><td>{values[row]:.3f}</td></tr>"
        for row in order[:LISTED].tolist()
    )
    colors = [_hex(heat(scale(values[row]))) for row in range(len(values))]
    text = page(
        "heat.html", QUERY=escape(query), LEAD=escape(lead), COUNT=f"{len(addresses):,}", LISTED=listed,
        MAP=_svg(courses, colors, values, addresses.texts.tolist(), shown.tolist()),
    )  # fmt: skip
    write_page(text, path.with_suffix(".html"))


def _canvas(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, wrap=True)
    return figure, axes


def _add(axes: Axes, lines: Shaped[np.ndarray, "n"], colors: object, width: float) -> None:
    parts, rows = shapely.get_parts(lines, return_index=True)
    is_line = shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING
    courses = [shapely.get_coordinates(part) for part in parts[is_line]]
    each = [colors[row] for row in rows[is_line].tolist()] if isinstance(colors, list) else colors
    axes.add_collection(LineCollection(courses, colors=each, linewidths=width, capstyle="round"))


def _frame(axes: Axes, addresses: Addresses) -> None:
    left, bottom, right, top = shapely.total_bounds(addresses.local_lines)
    room = 0.03 * max(right - left, top - bottom, 100.0)
    axes.set_xlim(left - room, right + room)
    axes.set_ylim(bottom - room, top + room)
    axes.set_aspect("equal")
    axes.set_xlabel("metres east")
    axes.set_ylabel("metres north")


def _hex(color: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color[:3])


def _svg(
    lines: Shaped[np.ndarray, "a"], colors: Sequence[str], values: Float64[np.ndarray, "a"], texts: Sequence[str],
    order: Sequence[int],
) -> str:  # fmt: skip
    """The addresses as lines, each with its name for whoever points at it."""
    left, bottom, right, top = shapely.total_bounds(lines)
    scale = (SVG_SIDE - 40) / max(right - left, top - bottom, 1.0)
    drawn = []
    for row in order:
        courses = [
            " ".join(
                f"{20 + scale * (x - left):.1f},{20 + scale * (top - y):.1f}" for x, y in shapely.get_coordinates(part)
            )
            for part in shapely.get_parts(lines[row])
        ]
        shapes = "".join(f'<polyline points="{course}"/>' for course in courses)
        drawn.append(f'<g stroke="{colors[row]}"><title>{escape(texts[row])}: {values[row]:.3f}</title>{shapes}</g>')
    wide, high = 40 + scale * (right - left), 40 + scale * (top - bottom)
    return (
        f'<svg viewBox="0 0 {wide:.0f} {high:.0f}" role="img" aria-label="map of the addresses" fill="none" '
        f'stroke-width="4" stroke-linecap="round">{"".join(drawn)}</svg>'
    )
