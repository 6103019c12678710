"""Maps of geocells: a picture, a section for the report, and a page of its own."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Int

from geo_ray.atlas.world import world
from geo_ray.cells.describe import size_histogram
from geo_ray.cells.partition import Partition
from geo_ray.errors import OutputError
from geo_ray.evaluation.cell_figure import PIXELS, cells_png, summary
from geo_ray.evaluation.map_views import Bounds
from geo_ray.evaluation.pages import page, write_page

NO_REASON = "no reason stated"


def draw_cells(partition: Partition, path: Path, *, title: str = "Geocells", zoom: Bounds | str = "europe") -> None:
    """Write the picture of ``cell_figure.cells_png``; ``OutputError`` where it can't be written."""
    png = cells_png(partition, title=title, zoom=zoom)
    try:
        path.write_bytes(png)
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error}); choose a path that can") from error


def write_cells_page(
    partition: Partition, path: Path, *, title: str = "Geocells", zoom: Bounds | str = "europe"
) -> None:
    """Write one HTML file that opens offline, in the report's look; ``OutputError`` where it can't be written."""
    section = cells_section(partition, title=title, zoom=zoom)
    texts = {"TITLE": title, "LEAD": summary(partition), "CREDIT": f"{world().source}; {world().licence}"}
    write_page(page("cells.html", CELLS=section, **{name: escape(text) for name, text in texts.items()}), path)


def cells_section(partition: Partition, *, title: str = "Geocells", zoom: Bounds | str = "europe") -> str:
    """A section of a page: the picture of ``cell_figure``, a table of sizes, and cells outside the limits by reason.

    It refers to nothing outside itself; the report's style gives it its look.
    """
    picture = base64.b64encode(cells_png(partition, title=title, zoom=zoom)).decode()
    return f"""<section id="cells" aria-labelledby="cells-title">
<h2 id="cells-title">Geocells by size</h2>
<p class="note">Colour is the number of training points in a cell, on a logarithmic scale; a grey cell has none.</p>
<figure class="picture"><img src="data:image/png;base64,{picture}" width="{PIXELS[0]}" height="{PIXELS[1]}"
alt="{escape(_alternative(partition))}"></figure>
</section>
<section class="pair">{_sizes(partition)}{_exceptions(partition)}</section>"""


def no_cells_section(note: str) -> str:
    """The section that stands where the cells can't be shown."""
    return f'<section id="cells"><h2>Geocells by size</h2><p class="note">{escape(note)}</p></section>'


def _alternative(partition: Partition) -> str:
    """What the picture says, for those who don't see it."""
    classes = [f"{name}: {count:,}" for name, count in size_histogram(partition).items()]
    return f"Maps of {summary(partition)}, and a histogram of their sizes. Cells by points: {', '.join(classes)}."


def _sizes(partition: Partition) -> str:
    counts = size_histogram(partition)
    rows = [(name, f"{count:,}", f"{100 * count / len(partition):.1f} %") for name, count in counts.items()]
    return _table("Sizes", "How many training points the cells hold.", ("training points", "cells", "share"), rows)


def _exceptions(partition: Partition) -> str:
    """The cells outside the limits by reason, the most frequent first, with the largest of each."""
    counts, sizes = partition.counts, partition.sizes
    outside = np.flatnonzero((counts < sizes.min_size) | (counts > sizes.max_size))
    reasons = np.where(partition.reasons[outside] == "", NO_REASON, partition.reasons[outside])
    found = [(reason, outside[reasons == reason]) for reason in dict.fromkeys(reasons)]
    rows = [
        (reason, f"{len(cells):,}", f"{counts[cells].sum():,}", _largest(partition, cells))
        for reason, cells in sorted(found, key=lambda item: -len(item[1]))
    ]
    note = "Cells outside the limits, by reason." if rows else "No cell is outside the limits."
    return _table("Exceptions", note, ("reason", "cells", "training points", "the largest"), rows)


def _largest(partition: Partition, cells: Int[np.ndarray, "n"]) -> str:
    cell = cells[np.argmax(partition.counts[cells])]
    return f"{partition.cell_ids[cell]} ({partition.counts[cell]:,})"


def _table(title: str, note: str, names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table as the report's ``tables.js`` makes them; every text is escaped."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(value)}</td>" for value in rest)}</tr>'
        for first, *rest in rows
    )
    grid = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{grid}</div>'
    return f'<div><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{region if rows else ""}</div>'
