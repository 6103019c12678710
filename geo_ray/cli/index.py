"""``geo-ray index``: show, bench."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import command


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "index", _show, "look at prototype indexes and measure them", epilog="")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = command(actions, "show", _show, "say what an index holds", epilog="")
    show.add_argument("index", type=Path, metavar="DIR", help="an index, or one in shards")
    _add_bench(actions)


def _add_bench(actions: Any) -> None:
    parser = command(actions, "bench", _bench, "measure search engines on random vectors", epilog=(
        "Vectors are random mixtures with the sizes of real cells. About 15 minutes on 2 cores."))  # fmt: skip
    parser.add_argument("--num-vectors", type=int, metavar="N", help="(default: 500000; with --gated 1000000)")
    parser.add_argument("--num-features", type=int, metavar="D", help="(default: 512; with --gated 768)")
    parser.add_argument("--num-queries", type=int, metavar="N", help="(default: 2048; with --gated 1024)")
    parser.add_argument("--gated", action="store_true", help="cell-gated search alone: time an image, memory, opening")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")


def _show(arguments: argparse.Namespace) -> None:
    from geo_ray.index.describe import describe_folder

    print(describe_folder(arguments.index))


def _bench(arguments: argparse.Namespace) -> None:
    from geo_ray.index.bench import Bench, GatedBench, bench, bench_gated

    asked = {name: value for name, value in vars(arguments).items() if name.startswith("num_") and value is not None}
    num_queries = {"num_queries": asked.pop("num_queries")} if "num_queries" in asked else {}
    options: Bench | GatedBench = GatedBench() if arguments.gated else Bench()
    options = dataclasses.replace(options, mixture=dataclasses.replace(options.mixture, **asked), **num_queries)
    result = bench_gated(options) if isinstance(options, GatedBench) else bench(options)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
