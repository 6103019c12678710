"""``geo-ray cells``: build, show, check, plot."""

import argparse
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import add_address, command
from geo_ray.errors import InputError, PartitionError


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "cells", _cells_show, "build geocells from places, and look at them", epilog="")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_cells_build(actions)
    show = command(actions, "show", _cells_show, "say how many cells there are, and of what size", epilog="")
    check = command(actions, "check", _cells_check, "check what cells promise; exit with 1 where it doesn't hold",
                     epilog="")  # fmt: skip
    check.add_argument("--points", metavar="TABLE", help="the places that it was built from, to count them again")
    _add_boundaries(check)
    plot = command(actions, "plot", _cells_plot, "draw a map of the world and a part of it", epilog="")
    plot.add_argument("--output", type=Path, default=Path("cells.png"), metavar="FILE",
                      help=".png, or .html for a page that opens offline (default: %(default)s)")  # fmt: skip
    plot.add_argument("--zoom", default="europe", metavar="WHERE",
                      help="europe, an ISO code, or =west,south,east,north (default: %(default)s)")  # fmt: skip
    for action in (show, check, plot):
        action.add_argument("cells", type=Path, metavar="FILE", help="cells as GeoParquet")


def _add_cells_build(actions: Any) -> None:
    build = command(actions, "build", _cells_build, "build geocells from the places of training images", epilog=(
        "example:\n"
        "  geo-ray cells build --points places.csv --output cells.parquet\n"
        "  geo-ray cells plot cells.parquet --zoom FR\n"
        "TABLE is CSV or parquet with latitude and longitude under any of their usual names."))  # fmt: skip
    build.add_argument("--points", required=True, metavar="TABLE", help="places of training images")
    build.add_argument("--output", required=True, type=Path, metavar="FILE", help="where the cells go, as GeoParquet")
    build.add_argument("--kind", choices=["semantic", "rectangles", "s2"], default="semantic", help=(
        "areas fused and split, balanced rectangles, or S2 cells by count (default: %(default)s)"))  # fmt: skip
    build.add_argument("--parameters", choices=["pigeon", "pigeotto"], default="pigeon", help=(
        "sizes and OPTICS schedule: 30 to 60 places a cell, or 1000 to 2000 (default: %(default)s)"))  # fmt: skip
    build.add_argument("--min-size", type=int, metavar="N", help="places that a cell has at least")
    build.add_argument("--max-size", type=int, metavar="N", help="places that a cell has at most")
    build.add_argument("--seed", type=int, default=330, help="of the order in which areas fuse (default: %(default)s)")
    _add_boundaries(build)
    add_address(build)


def _add_boundaries(parser: argparse.ArgumentParser) -> None:
    text = "one's own areas: GADM, geoBoundaries, GeoJSON, GeoPackage, GeoParquet (default: those that ship)"
    parser.add_argument("--boundaries", type=Path, metavar="FILE", help=text)
    parser.add_argument("--layer", metavar="NAME", help="the layer to read of --boundaries, where there are several")
    text = "areas of admin 1, where those of --boundaries don't say in which they are, as geoBoundaries' admin 2"
    parser.add_argument("--admin-1", type=Path, metavar="FILE", help=text)


def _cells_build(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.describe import describe
    from geo_ray.cells.partition_file import write_partition
    from geo_ray.cells.rectangles import build_rectangles
    from geo_ray.cells.s2 import build_s2
    from geo_ray.cells.semantic import with_sizes
    from geo_ray.evaluation.tables import read_points
    from geo_ray.remote.cell_tasks import build_with_progress
    from geo_ray.remote.runtime import connected

    _check_boundaries(arguments)
    latlon = read_points(arguments.points)
    semantic = with_sizes(arguments.parameters, arguments.min_size, arguments.max_size, arguments.seed)
    if arguments.kind == "rectangles":
        partition = build_rectangles(latlon, semantic.sizes)
    elif arguments.kind == "s2":
        partition = build_s2(latlon, semantic.sizes)
    else:
        boundaries = _boundaries(arguments)
        with connected(arguments.address):
            partition = build_with_progress(boundaries, latlon, semantic)
    write_partition(partition, arguments.output)
    print(describe(partition))


def _check_boundaries(arguments: argparse.Namespace) -> None:
    from geo_ray.atlas.boundaries import is_finished
    from geo_ray.atlas.geoparquet import is_parquet

    path = arguments.boundaries
    described = arguments.layer is not None or arguments.admin_1 is not None
    if described and path is None:
        raise InputError("--layer and --admin-1 say how to read a file of areas; name it with --boundaries FILE")
    if described and path.is_file() and is_parquet(path) and (arguments.layer is not None or is_finished(path)):
        raise InputError(f"{path} is GeoParquet, which has all its areas in one layer; leave out --layer and --admin-1")


def _boundaries(arguments: argparse.Namespace) -> Any:
    from geo_ray.atlas.boundaries import boundaries
    from geo_ray.atlas.boundary_files import load_boundaries

    if arguments.boundaries is None:
        return boundaries()
    return load_boundaries(arguments.boundaries, layer=arguments.layer, admin_1_path=arguments.admin_1)


def _cells_show(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.describe import describe
    from geo_ray.cells.partition_file import read_partition

    print(describe(read_partition(arguments.cells)))


def _cells_check(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.check import check_partition
    from geo_ray.cells.partition_file import read_partition
    from geo_ray.evaluation.tables import read_points

    _check_boundaries(arguments)
    partition = read_partition(arguments.cells)
    latlon = None if arguments.points is None else read_points(arguments.points)
    broken = 0
    for finding in check_partition(partition, boundaries=_boundaries(arguments), latlon=latlon):
        print(f"{'ok    ' if finding.kept else 'BROKEN'}  {finding.promise}: {finding.detail}", flush=True)
        broken += not finding.kept
    if broken:
        raise PartitionError(f"{arguments.cells} breaks {broken} promises; build it again with `geo-ray cells build`")


def _cells_plot(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.partition_file import read_partition
    from geo_ray.evaluation.cell_map import draw_cells, write_cells_page

    draw = write_cells_page if arguments.output.suffix == ".html" else draw_cells
    draw(read_partition(arguments.cells), arguments.output, zoom=arguments.zoom)
    print(arguments.output)
