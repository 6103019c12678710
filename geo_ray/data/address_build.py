"""Building a city's addresses: a street graph to a folder of addresses, streets, counts and a picture."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geo_ray.atlas.addresses import addresses_of, within, write_addresses
from geo_ray.atlas.street_files import StreetColumns, area_of, read_streets
from geo_ray.atlas.streets import Cutting, cut_streets
from geo_ray.datasets.street_map import ADDRESSES, STREETS, write_streets
from geo_ray.errors import InputError, OutputError
from geo_ray.evaluation.address_figures import draw_addresses
from geo_ray.evaluation.tables import read_points

COUNTS, PICTURE = "counts.json", "addresses.png"


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Which streets, how they are cut, and what is kept of them.

    ``points`` is a table of where photos were taken, by which short sub-streets are merged; ``neighbourhoods`` a file
    of polygons with names. Of the addresses those in ``area``, a file of polygons, and in the neighbourhoods ``only``
    are kept.
    """

    graph: tuple[str, ...]
    output: Path
    columns: StreetColumns = field(default_factory=StreetColumns)
    cutting: Cutting = field(default_factory=Cutting)
    neighbourhoods: str = ""
    points: str = ""
    area: str = ""
    only: tuple[str, ...] = ()


def build_addresses(options: BuildOptions, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Write the folder; returns the counts of each step. Raises ``InputError`` and ``OutputError``."""
    if options.output.exists() and (not options.output.is_dir() or any(options.output.iterdir())):
        raise OutputError(f"{options.output} holds something; name a new folder with --output")
    points = read_points(options.points) if options.points else None
    area = area_of(options.area) if options.area else None
    graph = read_streets(options.graph, options.columns, options.neighbourhoods)
    say(f"read {len(graph.names):,} edges between {len(graph.latlon):,} nodes")
    cut = cut_streets(graph, options.cutting, points)
    addresses = addresses_of(graph, cut)
    if area is not None:
        addresses = within(addresses, area)
    if options.only:
        rows = np.flatnonzero(np.isin(addresses.neighbourhoods.astype(str), options.only))
        if not len(rows):
            known = sorted({name for name in addresses.neighbourhoods if name})
            raise InputError(f"no address lies in {', '.join(options.only)}; there are: {', '.join(known) or 'none'}")
        addresses = addresses.take(rows)
    quarters = np.percentile(addresses.num_points, (25, 50, 75)).tolist()
    counts = cut.counts | {
        "kept_sub_streets": len(addresses),
        "addresses": len(set(addresses.texts)),
        "without_neighbourhood": int((addresses.neighbourhoods == "").sum()),
        "points_a_sub_street_quartiles": quarters,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    write_streets(graph, options.output / STREETS)
    draw_addresses(graph.lines, addresses, options.output / PICTURE)
    settings = asdict(options) | {"output": str(options.output)}
    (options.output / COUNTS).write_text(json.dumps({"counts": counts, "options": settings}, indent=1) + "\n")
    write_addresses(addresses, options.output / ADDRESSES)
    say(counts_text(counts))
    return counts


def counts_text(counts: dict[str, Any]) -> str:
    """The counts of a build, a line each."""
    return "\n".join(
        f"{name.replace('_', ' '):<32} {value if isinstance(value, list) else format(value, ',')}"
        for name, value in counts.items()
    )


def examples(texts: Sequence[str], count: int = 5) -> str:
    """Some addresses, evenly from all."""
    return "\n".join(f"  {texts[row]}" for row in np.linspace(0, len(texts) - 1, min(count, len(texts)), dtype=int))
