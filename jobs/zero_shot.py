"""Zero-shot test: satellite crops of countries that ``earth-captions`` never saw, geotagged by captions alone."""

import argparse
import csv
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from geo_ray.cli import main as geo_ray
from geo_ray.datasets import earth
from geo_ray.evaluation.evaluate import compare
from geo_ray.evaluation.matching import match
from geo_ray.evaluation.tables import Predictions, Truth, read_predictions, read_truth
from geo_ray.models.bundle import open_bundle
from geo_ray.train.held_out import NamedPlaces, photo_places
from geo_ray.train.transfer import accuracy, accuracy_by_class, countries_alone, shuffled_accuracies

RENDER_AT_ONCE = 250
TOP = 5


def render_images(folder: Path, places: NamedPlaces, seed: int) -> None:
    """Write JPEG crops of the places to ``folder``/images, and places and countries to ``folder``/truth.csv."""
    views = earth.jittered_views(places.latlon, np.random.default_rng(seed))
    names = [f"{number:05d}.jpg" for number in range(len(places))]
    (folder / "images").mkdir(parents=True)
    for start in range(0, len(places), RENDER_AT_ONCE):
        part = slice(start, start + RENDER_AT_ONCE)
        for name, pixels in zip(names[part], earth.render(views.take(part)), strict=True):
            (folder / "images" / name).write_bytes(earth.encode_jpeg(pixels))
    with (folder / "truth.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "latitude", "longitude", "country"])
        rows = zip(names, places.latlon.tolist(), places.countries, strict=True)
        table.writerows([name, *point, country] for name, point, country in rows)


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


def measure(folder: Path, bundle_ref: str, seed: int) -> dict[str, Any]:
    """Geotag the crops in ``folder`` with the bundle and with its countries alone, all and those held out."""
    bundle, truth = open_bundle(bundle_ref), read_truth(folder / "truth.csv")
    held_out = tuple(bundle.provenance["held_out"])
    answers = geotag(folder / "images", bundle_ref, folder / "towns")
    ranked = {}
    for name, among in (("all", None), ("held_out", held_out)):
        countries_alone(bundle, folder / f"bundle-{name}", among, TOP)
        predictions = geotag(folder / "images", str(folder / f"bundle-{name}"), folder / name)
        ranked[name] = top_countries(predictions, truth)
    (best, true), (guesses, _) = ranked["all"], ranked["held_out"]
    errors = compare(answers, truth).error_km
    shuffled = shuffled_accuracies(guesses[:, 0], true, np.random.default_rng(seed))
    num_countries = int((np.array(open_bundle(str(folder / "bundle-all")).files) != "").sum())
    return {
        "num_images": len(true),
        "held_out": held_out,
        "among_held_out": accuracy(guesses[:, 0] == true, true)
        | {"chance": 1 / len(held_out), "shuffled_mean": shuffled.mean(), "shuffled_max": shuffled.max()},
        "among_all": accuracy(best[:, 0] == true, true) | {"chance": 1 / num_countries},
        "among_all_top_5": accuracy((best == true[:, None]).any(axis=1), true) | {"chance": TOP / num_countries},
        "median_error_km": float(np.median(errors)),
        "by_country": accuracy_by_class(guesses[:, 0] == true, true),
    }
