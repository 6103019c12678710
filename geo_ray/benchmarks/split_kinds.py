"""What is known of places near and far from all known ones: the recipe, trained on each kind of split.

    python jobs/compare_splits.py --json out/splits.json

``blocks``: between known places. ``regions``: nothing known within a crop's width, 400 km. ``countries``: no known
place in the country. Each is a model of its own, trained in the same number of steps, its radii fitted on the
validation part of the same split. One vote a unit that is held out, a block, a region or a country; intervals draw
whole units.
"""

import argparse
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from geo_ray.benchmarks.crops import IMAGES, TRUTH, write_crops
from geo_ray.benchmarks.rows import write_json
from geo_ray.cli import main as geo_ray
from geo_ray.datasets.splits import SplitKind, units_of
from geo_ray.errors import GeoRayError
from geo_ray.evaluation.bootstrap import groups_by_column
from geo_ray.evaluation.comparison import Comparison, compare, load
from geo_ray.evaluation.evaluate import INTERVALS, evaluate
from geo_ray.geo.metrics import weighted_median
from geo_ray.geo.sphere import EARTH_RADIUS_KM, great_circle_km, unit_vectors
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.remote.runtime import connected
from geo_ray.train.assemble import assemble
from geo_ray.train.config import TrainConfig
from geo_ray.train.crop_runs import train
from geo_ray.train.places import train_locations

KINDS: tuple[SplitKind, ...] = ("blocks", "regions", "countries")
UNIT = "held_out_with"
SHARES_KM = ("25", "200", "750", "2500")


def measure(config: TrainConfig, encoder: EncoderSpec, output: Path, num_images: int) -> dict[str, Any]:
    """Train on a split, geotag crops of its test part by the command line, and evaluate them by unit."""
    shutil.rmtree(output, ignore_errors=True)
    with connected("local"):
        weights, cells = train(config, output)
        assemble(config, weights, cells, encoder, output / "bundle")
    training, test = train_locations(config, "train"), train_locations(config, "test")
    rng = np.random.default_rng(config.seed)
    test = test[rng.permutation(len(test))[:num_images]]
    units = units_of(test, config.split_seed, config.split).astype(str)
    write_crops(output, test, rng, {UNIT: units})
    arguments = ["geotag", str(output / IMAGES), "--bundle", str(output / "bundle"), "--address", "local"]
    if code := geo_ray([*arguments, "--output", str(output / "answers")]):
        raise GeoRayError(f"geotag ended with code {code}")
    predictions, truth = load(output / "answers", output / TRUTH, UNIT)
    metrics = evaluate(predictions, truth)["by_place"]
    chord, _ = cKDTree(unit_vectors(training)).query(unit_vectors(test))
    known_km = 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1))
    return {
        "split": config.split,
        "num_steps": config.num_steps,
        "num_training_places": len(training),
        "num_images": len(test),
        "num_units": metrics["num_places"],
        "nearest_known_km": weighted_median(known_km, groups_by_column(units, UNIT).weights),
        "shuffled_median_km": shuffled_median_km(compare(predictions, truth)),
        "metrics": metrics,
    }


def shuffled_median_km(comparison: Comparison, seed: int = 0) -> float:
    """The median error by place where every image has another's answer: what knowing nothing of an image gives."""
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(comparison.answered))
    error_km = great_circle_km(comparison.true_latlon[comparison.answered], comparison.latlon[rows])
    return weighted_median(error_km, comparison.groups.weights[comparison.answered])


COLUMNS = ("split", "trained on", "units", "nearest known", "median error", "(95 % interval)", "answers shuffled")
WIDTHS = (10, 11, 7, 15, 14, 22, 18)


def row_text(row: dict[str, Any]) -> str:
    """A row of the table."""
    metrics = row["metrics"]
    low, high = metrics[INTERVALS]["median_error_km"]
    distances = f"{row['nearest_known_km']:,.1f} km", f"{metrics['median_error_km']:,.1f} km"
    cells = (row["split"], f"{row['num_training_places']:,}", f"{row['num_units']:,}", *distances,
             f"({low:,.1f} to {high:,.1f})", f"{row['shuffled_median_km']:,.0f} km")  # fmt: skip
    covered = [metrics["radius_coverage"][share] for share in ("50", "90")]
    shares = [metrics["accuracy_at_km"][km] for km in SHARES_KM]
    shares += [metrics["country_accuracy"], *covered, 1 - metrics["radius_stated"]]
    return _line(cells, [f"{np.nan if share is None else share:.1%}" for share in shares])


def head_text() -> str:
    """What stands above the rows."""
    return _line(COLUMNS, [*(f"{km} km" for km in SHARES_KM), "country", "in 50 %", "in 90 %", "unlike"])


def _line(cells: Sequence[str], shares: Sequence[str]) -> str:
    first = f"{cells[0]:<{WIDTHS[0]}}"
    return (
        first
        + "".join(f"{cell:>{width}}" for cell, width in zip(cells[1:], WIDTHS[1:], strict=True))
        + "".join(f"{share:>9}" for share in shares)
    )


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/splits"))
    parser.add_argument("--num-steps", type=int, default=1100, help="of each training (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=5000, help="at most, of each test (default: %(default)s)")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    config, encoder = earth_tiny()
    rows = []
    for kind in options.only:
        changed = dataclasses.replace(config, split=kind, num_steps=options.num_steps)
        rows.append(measure(changed, encoder, (options.output / kind).resolve(), options.num_images))
        print("\n".join(["", head_text(), *map(row_text, rows), ""]), flush=True)
        write_json(options.json, rows)
