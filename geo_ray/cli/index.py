"""``geo-ray index``: build, show, bench."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import add_address, at_least_one, command
from geo_ray.errors import InputError


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "index", _show, "build, look at and measure prototype indexes", epilog="")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_build(actions)
    show = command(actions, "show", _show, "say what an index holds", epilog="")
    show.add_argument("index", type=Path, metavar="DIR", help="an index, or one in shards")
    _add_bench(actions)


def _add_build(actions: Any) -> None:
    parser = command(actions, "build", _build, "build prototypes from image features and places", epilog=(
        "example:\n"
        "  geo-ray embed photos/ --bundle mine/ --output features/\n"
        "  geo-ray index build --features features/ --places p.csv --bundle mine/ --output index/\n"
        "  geo-ray geotag new/ --bundle mine/ --index index/ --output answers/"))  # fmt: skip
    parser.add_argument("--features", required=True, nargs="+", metavar="DIR", help=(
        "outputs of geo-ray embed, or parquet files with image_id and features"))  # fmt: skip
    parser.add_argument("--places", metavar="TABLE", help=(
        "where the images were taken, by id (default: latitude and longitude in the files of features)"))  # fmt: skip
    cells = parser.add_mutually_exclusive_group(required=True)
    cells.add_argument("--bundle", metavar="BUNDLE", help="the bundle of cells that the index is for")
    cells.add_argument("--cells", type=Path, metavar="FILE", help="or its cells alone, as GeoParquet")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder or URI for the index")
    parser.add_argument("--clustering", choices=["pigeon", "pigeotto", "pigeotto-code"], default="pigeon", help=(
        "OPTICS: 3 images at least and xi 0.15, or 10 (in the code: 100) and 0.1 (default: pigeon)"))  # fmt: skip
    parser.add_argument("--noise", choices=["drop", "own", "nearest"], default="drop", help=(
        "images in no cluster: left out (paper), prototypes themselves, or the nearest's (default: drop)"))  # fmt: skip
    parser.add_argument("--filed-by", choices=["center", "polygon"], help=(
        "an image's cell: whose center is nearest, or the one that covers it; the bundle's head must rank cells by the "
        "same (default: the bundle's; center for cells alone)"))  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "float16", "int8"], default="int8", help=(
        "numbers that features are stored as (default: int8 with a scale a vector)"))  # fmt: skip
    parser.add_argument("--metric", choices=["l2", "ip"], default="l2", help="distance (default: %(default)s)")
    parser.add_argument("--shards", type=at_least_one, metavar="N", help=(
        "split it into shards of whole cells, for actors (default: one folder)"))  # fmt: skip
    parser.add_argument("--hubness", action="store_true", help="keep what CSLS needs; one process reads all members")
    add_address(parser)


def _add_bench(actions: Any) -> None:
    parser = command(actions, "bench", _bench, "measure search engines on random vectors", epilog=(
        "Vectors are random mixtures with the sizes of real cells. About 15 minutes on 2 cores."))  # fmt: skip
    parser.add_argument("--num-vectors", type=int, metavar="N", help="(default: 500000; with --gated 1000000)")
    parser.add_argument("--num-features", type=int, metavar="D", help="(default: 512; with --gated 768)")
    parser.add_argument("--num-queries", type=int, metavar="N", help="(default: 2048; with --gated 1024)")
    parser.add_argument("--gated", action="store_true", help="cell-gated search alone: time an image, memory, opening")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")


def _build(arguments: argparse.Namespace) -> None:
    from geo_ray.index.describe import counts_text
    from geo_ray.index.prototypes import CLUSTERINGS
    from geo_ray.remote.index_tasks import IndexBuild, build_with_progress
    from geo_ray.remote.runtime import connected

    cells, filed_by = _cells(arguments.bundle, arguments.cells)
    build = IndexBuild(
        features=tuple(arguments.features),
        places=arguments.places,
        cells=cells,
        output=arguments.output,
        clustering=dataclasses.replace(CLUSTERINGS[arguments.clustering], noise=arguments.noise),
        filed_by=arguments.filed_by or filed_by,
        dtype=arguments.dtype,
        metric=arguments.metric,
        num_shards=arguments.shards,
        hubness=arguments.hubness,
    )
    with connected(arguments.address):
        info = build_with_progress(build)
    print(f"{counts_text(info)}, filed by {info.filed_by}, in {arguments.output}")


def _cells(bundle_ref: str | None, cells: Path | None) -> tuple[Path, str]:
    """The file of cells, and the rule by which places are in them, as the bundle says that has the file."""
    from geo_ray.models.bundle import CELLS, MANIFEST, open_bundle

    if bundle_ref is None and cells is not None and (cells.parent / MANIFEST).is_file() and cells.name == CELLS:
        bundle_ref = str(cells.parent)
    if bundle_ref is None:
        return Path(str(cells)), "center"
    bundle = open_bundle(bundle_ref)
    if bundle.kind != "cells":
        raise InputError(f"bundle {bundle_ref} is of kind {bundle.kind}, which has no cells; name one of kind cells")
    return bundle.path(CELLS), bundle.filed_by


def _show(arguments: argparse.Namespace) -> None:
    from geo_ray.index.describe import describe_folder

    print(describe_folder(arguments.index))


def _bench(arguments: argparse.Namespace) -> None:
    from geo_ray.benchmarks.index_search import Bench, GatedBench, bench, bench_gated

    asked = {name: value for name, value in vars(arguments).items() if name.startswith("num_") and value is not None}
    num_queries = {"num_queries": asked.pop("num_queries")} if "num_queries" in asked else {}
    options: Bench | GatedBench = GatedBench() if arguments.gated else Bench()
    options = dataclasses.replace(options, mixture=dataclasses.replace(options.mixture, **asked), **num_queries)
    result = bench_gated(options) if isinstance(options, GatedBench) else bench(options)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
