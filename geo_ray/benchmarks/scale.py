"""How many GPUs one driver keeps busy: the bulk job's stream, with workers that sleep for as long as a GPU would take.

    python jobs/simulate_scale.py --gpus 64 --json out/scale.json

See ``simulation.py`` for what is real and what isn't. All of it runs on this machine's cores, which the
workers of a cluster would not share.
"""

import argparse
from pathlib import Path

from geo_ray.benchmarks.rows import write_json
from geo_ray.benchmarks.simulation import IMAGES_PER_SECOND, simulate


def main() -> None:
    """Parse the arguments, simulate, print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64], help="how many, a run each")
    parser.add_argument("--images-per-second", type=float, default=IMAGES_PER_SECOND, metavar="RATE", help=(
        "of a GPU (default: %(default)s, ViT-L/14 on an H100); a higher one asks more blocks a second of the driver "
        "without more processes on this machine"))  # fmt: skip
    parser.add_argument("--gpus-per-process", type=int, default=8, metavar="N", help=(
        "each process takes a hundredth of a core here by being there (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--num-images", type=int, default=2_000_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    arguments = parser.parse_args()
    rows = []
    for num_gpus in arguments.gpus:
        rows.append(simulate(num_gpus, arguments.num_images, arguments.images_per_second, arguments.gpus_per_process))
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    write_json(arguments.json, {"rows": rows})
