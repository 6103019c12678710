"""Benchmarks, each of which compares in one run what does the same work.

``throughput``: the bulk job beside other ways. ``gpu``: the bulk job on a GPU beside what bounds it. ``simulated-gpu``:
how busy GPUs would be that decode and encode as fast as measured. ``decoders``: JPEG decoders. ``refinement``: search.
``demo``: the demo.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from geo_ray.benchmarks.bounded import default_bound
from geo_ray.benchmarks.comparison import WAYS, WORKS, compare_ways
from geo_ray.benchmarks.decoders import decoder_rows, photos_in
from geo_ray.benchmarks.demo_cost import demo_cost
from geo_ray.benchmarks.gpu import SMOKE, TOWERS, Amount, gpu_rows
from geo_ray.benchmarks.refinement_cost import refinement_cost
from geo_ray.benchmarks.rows import say, write_json
from geo_ray.benchmarks.simulated_runs import INPUTS, simulated_runs
from geo_ray.benchmarks.workload import write_photos


def main() -> None:
    """Parse the arguments, run a benchmark, print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=["throughput", "gpu", "simulated-gpu", "decoders", "refinement", "demo"])
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
    parser.add_argument("--photos", type=Path, metavar="DIR", help=(
        "JPEG photos for gpu and decoders (default: satellite crops of the same size)"))  # fmt: skip
    parser.add_argument("--towers", nargs="+", default=[tower.name for tower in TOWERS], metavar="NAME", help=(
        "those of gpu (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="gpu with little work, on a CPU where there is no GPU")
    options = parser.parse_args()
    rows = []
    for row in _rows(options):
        say(row)
        rows.append(row)
    write_json(options.json, {"rows": rows})


def _rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    if options.benchmark in ("gpu", "decoders"):
        return _of_photos(options)
    if options.benchmark == "demo":
        return demo_cost(str(Path(__file__).with_name("demo.py")))
    if options.benchmark == "simulated-gpu":
        return simulated_runs(options.num_images, options.gpus, tuple(options.inputs))
    if options.benchmark == "refinement":
        return refinement_cost(options.num_images)
    works = (options.only,) if options.only else WORKS
    return compare_ways(works, options.ways, options.num_images, options.workers, int(options.max_memory * 2**30))


def _of_photos(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        photos = photos_in(options.photos) if options.photos else write_photos(Path(folder) / "crops")
        if options.benchmark == "decoders":
            yield from decoder_rows(photos)
            return
        if not options.smoke and not torch.cuda.is_available():
            raise SystemExit("there is no GPU; --smoke does a little of it on the CPU")
        towers = tuple(tower for tower in TOWERS if tower.name in options.towers)
        yield from gpu_rows(photos, SMOKE if options.smoke else Amount(num_images=options.num_images, towers=towers))


if __name__ == "__main__":
    main()
