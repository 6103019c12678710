"""Benchmarks: ``throughput`` compares ways to do the same work, ``simulated-gpu`` shows how busy GPUs would be.

``refinement`` measures search, ``demo`` the demo.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from geo_ray.benchmarks.bounded import default_bound
from geo_ray.benchmarks.comparison import WAYS, WORKS, compare_ways
from geo_ray.benchmarks.demo_cost import demo_cost
from geo_ray.benchmarks.refinement_cost import refinement_cost
from geo_ray.benchmarks.rows import say, write_json
from geo_ray.benchmarks.simulated_runs import INPUTS, simulated_runs


def main() -> None:
    """Parse the arguments, run a benchmark, print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=["throughput", "simulated-gpu", "refinement", "demo"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--num-images", type=int, default=20_000)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help=(
        "beside bare processes (default: all)"))  # fmt: skip
    parser.add_argument("--only", choices=WORKS, help="one of the works alone")
    parser.add_argument("--max-memory", type=float, default=default_bound() / 2**30, metavar="GIB", help=(
        "a way whose processes together take more is ended (default: two thirds of the machine's)"))  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes or actors (default: a core each)"
    )
    parser.add_argument("--gpus", type=int, default=1, help="simulated GPUs (default: %(default)s)")
    parser.add_argument("--inputs", nargs="+", default=list(INPUTS), choices=list(INPUTS), help=(
        "what holds the images for them (default: all)"))  # fmt: skip
    options = parser.parse_args()
    rows = _rows(options)
    for row in rows:
        say(row)
    write_json(options.json, {"rows": rows})


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.benchmark == "demo":
        return demo_cost(str(Path(__file__).with_name("demo.py")))
    if options.benchmark == "simulated-gpu":
        return simulated_runs(options.num_images, options.gpus, tuple(options.inputs))
    if options.benchmark == "refinement":
        return refinement_cost(options.num_images)
    works = (options.only,) if options.only else WORKS
    return compare_ways(works, options.ways, options.num_images, options.workers, int(options.max_memory * 2**30))


if __name__ == "__main__":
    main()
