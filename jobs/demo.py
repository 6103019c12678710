"""The demo: render held-out satellite crops, geotag the folder on local Ray, evaluate, report; all in ``out/demo``."""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from geo_ray.benchmarks.crops import IMAGES, TRUTH, write_crops
from geo_ray.cli import main as geo_ray
from geo_ray.datasets import earth
from geo_ray.datasets.splits import splits
from geo_ray.evaluation.comparison import load
from geo_ray.evaluation.evaluate import evaluate
from geo_ray.evaluation.text import format_table
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors
from geo_ray.recipes.earth_tiny import earth_tiny


def render_images(folder: Path, num_images: int, seed: int, raster: str) -> str:
    """Write JPEG crops of held-out places to ``folder``/images and their places to ``folder``/truth.csv.

    Returns a sentence about the places.
    """
    config, _ = earth_tiny()
    latlon = earth.locations()
    split = splits(latlon, config.split_seed)
    held_out = latlon[split == "test"]
    rng = np.random.default_rng(seed)
    chosen = held_out[rng.permutation(len(held_out))[:num_images]]
    write_crops(folder, chosen, rng, raster=raster)
    chord, _ = cKDTree(unit_vectors(latlon[split == "train"])).query(unit_vectors(chosen))
    away = float(np.median(chord)) * EARTH_RADIUS_KM
    return f"{len(latlon):,} photo locations; the nearest one in training is {away:.1f} km away in the median"


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/demo"))
    parser.add_argument("--bundle", default="earth-tiny")
    parser.add_argument("--num-images", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=330)
    other = "any equirectangular picture of the Earth to crop instead of the Blue Marble, to try other imagery"
    parser.add_argument("--raster", default=earth.RASTERS[0], metavar="FILE", help=other)
    options = parser.parse_args()
    start = time.perf_counter()
    output: Path = options.output
    shutil.rmtree(output, ignore_errors=True)
    places = render_images(output, options.num_images, options.seed, options.raster)
    seconds = time.perf_counter() - start
    print(
        f"rendered {options.num_images:,} satellite crops of held-out places in {seconds:.0f} s ({places})", flush=True
    )
    code = geo_ray(
        ["geotag", str(output / IMAGES), "--output", str(output), "--bundle", options.bundle, "--address", "local"]
    )
    if code:
        return code
    metrics = evaluate(*load(output, output / TRUTH))
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(format_table(metrics))
    print("report:", end=" ", flush=True)
    code = geo_ray(["report", str(output)])
    print(f"images, truth, predictions and metrics: {output}; {time.perf_counter() - start:.0f} s in all")
    return code


if __name__ == "__main__":
    sys.exit(main())
