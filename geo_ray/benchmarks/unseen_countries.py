"""Zero-shot test: satellite crops of countries that ``earth-captions`` never saw, geotagged by captions alone."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from geo_ray.atlas.labels import ROOT, Labels, load_labels
from geo_ray.benchmarks.crops import IMAGES, TRUTH, write_crops
from geo_ray.benchmarks.rows import write_json
from geo_ray.benchmarks.transfer import accuracy, accuracy_by_class, countries_alone, shuffled_accuracies
from geo_ray.cli import main as geo_ray
from geo_ray.evaluation.comparison import compare
from geo_ray.evaluation.matching import match
from geo_ray.evaluation.tables import Predictions, Truth, read_predictions, read_truth
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.bundle import LABELS, open_bundle
from geo_ray.train.held_out import photo_places

TOP = 5
COUNTRY = "country"  # column of the table of true places


def geotag(images: Path, bundle: str, output: Path) -> Predictions:
    """The predictions of a bundle for a folder, by the command line."""
    command = ["geotag", str(images), "--output", str(output), "--bundle", bundle, "--address", "local"]
    if code := geo_ray(command):
        sys.exit(code)
    return read_predictions(output)


def top_countries(predictions: Predictions, truth: Truth) -> tuple[Shaped[np.ndarray, "n k"], Shaped[np.ndarray, "n"]]:
    """The countries that an image is most like, the best first, and its true country."""
    if truth.countries is None:
        raise ValueError("the table of true places has no countries")
    pairs = match(predictions, truth)
    found = predictions.take(pairs.prediction_rows)
    candidates = found.candidates(names := found.ids.to_pylist())
    ranked = np.array([[item["cell_id"] for item in candidates[name]] for name in names], dtype=object)
    return ranked, truth.countries[pairs.truth_rows]


def ranked_countries(
    folder: Path, bundle_ref: str, among: tuple[str, ...] | None = None
) -> tuple[Shaped[np.ndarray, "n k"], Shaped[np.ndarray, "n"]]:
    """Geotag the crops in ``folder`` with a bundle's countries alone, all or these: the best of each, and the truth."""
    name = "all" if among is None else "held_out"
    countries_alone(open_bundle(bundle_ref), folder / f"bundle-{name}", among, TOP)
    predictions = geotag(folder / IMAGES, str(folder / f"bundle-{name}"), folder / name)
    return top_countries(predictions, read_truth(folder / TRUTH))


def measure(folder: Path, bundle_ref: str, seed: int) -> dict[str, Any]:
    """Geotag the crops in ``folder`` with the bundle and with its countries alone, all and those held out."""
    bundle, truth = open_bundle(bundle_ref), read_truth(folder / TRUTH)
    held_out = tuple(bundle.provenance["held_out"])
    answers = geotag(folder / IMAGES, bundle_ref, folder / "towns")
    best, true = ranked_countries(folder, bundle_ref)
    guesses, true_of_guesses = ranked_countries(folder, bundle_ref, held_out)  # each run has an order of its own
    errors = compare(answers, truth).error_km
    shuffled = shuffled_accuracies(guesses[:, 0], true_of_guesses, np.random.default_rng(seed))
    labels = load_labels(bundle.path(LABELS))
    num_countries = int((labels.parents == ROOT).sum())
    return {
        "num_images": len(true),
        "held_out": held_out,
        "among_held_out": accuracy(guesses[:, 0] == true_of_guesses, true_of_guesses)
        | {"chance": 1 / len(held_out), "shuffled_mean": shuffled.mean(), "shuffled_max": shuffled.max()},
        "among_all": accuracy(best[:, 0] == true, true) | {"chance": 1 / num_countries},
        "among_all_top_5": accuracy((best == true[:, None]).any(axis=1), true) | {"chance": TOP / num_countries},
        "num_countries": num_countries,
        "median_error_km": float(np.median(errors)),
        "random_median_error_km": _random_error_km(truth.latlon, labels, seed),
        "by_country": accuracy_by_class(guesses[:, 0] == true_of_guesses, true_of_guesses),
    }


def _random_error_km(latlon: Float64[np.ndarray, "n 2"], labels: Labels, seed: int) -> float:
    """The median distance in km to a town of a country, both drawn at random."""
    rng = np.random.default_rng(seed)
    roots = np.flatnonzero(labels.parents == ROOT)
    below = [labels.latlon[labels.parents == root] for root in roots]
    towns = np.concatenate([rng.choice(below[row], 1) for row in rng.integers(len(roots), size=len(latlon))])
    return float(np.median(great_circle_km(latlon, towns)))


def format_table(metrics: dict[str, Any]) -> str:
    """The metrics as a short table for a terminal."""
    lines = [f"{'':38}{'of images':>12}{'of countries':>14}{'chance':>9}"]
    rows = {
        f"right among the {len(metrics['held_out'])} held out": metrics["among_held_out"],
        f"right among all {metrics['num_countries']}": metrics["among_all"],
        f"right among the best {TOP} of all": metrics["among_all_top_5"],
    }
    for name, row in rows.items():
        lines.append(f"{name:38}{row['images']:12.1%}{row['classes']:14.1%}{row['chance']:9.1%}")
    shuffled = metrics["among_held_out"]
    lines.append(
        f"captions shuffled among the held out: {shuffled['shuffled_mean']:.1%} of countries in the mean, "
        f"{shuffled['shuffled_max']:.1%} at most"
    )
    lines.append(
        f"median error {metrics['median_error_km']:,.0f} km "
        f"(a random town: {metrics['random_median_error_km']:,.0f} km)"
    )
    shares = sorted(metrics["by_country"].items(), key=lambda item: -item[1])
    lines.append("by country: " + ", ".join(f"{code} {share:.0%}" for code, share in shares))
    return "\n".join(lines)


def main() -> None:
    """Run the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="out/earth-captions/bundle")
    parser.add_argument("--output", type=Path, default=Path("out/zero-shot"))
    parser.add_argument("--seed", type=int, default=330)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    held_out = open_bundle(options.bundle).provenance["held_out"]
    shutil.rmtree(options.output, ignore_errors=True)
    photos = photo_places()
    places = photos.take(np.isin(photos.countries, held_out))
    print(f"rendering {len(places):,} satellite crops of {len(held_out)} countries", flush=True)
    write_crops(options.output, places.latlon, np.random.default_rng(options.seed), {COUNTRY: places.countries})
    metrics = measure(options.output, options.bundle, options.seed)
    print(format_table(metrics))
    write_json(options.json, metrics)
