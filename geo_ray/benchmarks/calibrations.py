"""Whether what earth-tiny states of its answers holds on places that it was not fitted on.

    python jobs/benchmark_calibration.py --json out/calibration.json --photos photos/

Crops of the validation and test places are drawn into halves by whole blocks, ten times: what is stated is fitted on
one half and looked at on the other. Then, fitted on the validation places as the bundle is: the test places in other
imagery, and pictures of other kinds, which should be called unlike.
"""

import argparse
import glob
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from geo_ray.benchmarks.rows import write_json
from geo_ray.datasets import earth
from geo_ray.evaluation.bootstrap import Bootstrap, Groups, groups_by_block
from geo_ray.evaluation.breakdown import NUM_FIFTHS, fifths_of
from geo_ray.evaluation.calibration import KnownAnswers, fit_calibration, folds
from geo_ray.evaluation.known_answers import known_answers
from geo_ray.evaluation.refinement import known_images
from geo_ray.evaluation.reliability import reliability
from geo_ray.geo.calibration import Calibration, ProbabilityCalibration
from geo_ray.geo.metrics import weighted_mean
from geo_ray.models.bundle import Bundle, open_bundle
from geo_ray.models.naming import open_naming
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import calibration_graph
from geo_ray.pipeline.local import run_local
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.remote.runtime import connected
from geo_ray.train.gallery import embed_views
from geo_ray.train.places import train_locations

NUM_SPLITS = 10
ABSTAIN = 0.3  # the share of places whose answers are the least certain
NUM_PICTURES = 125  # of each kind


def embedded(bundle: Bundle, split: str, raster: str = earth.RASTERS[0]) -> KnownAnswers:
    """What the bundle answers to crops of a split's places, before it is described."""
    config, _ = earth_tiny()
    latlon = train_locations(config, split)
    views = earth.jittered_views(latlon, np.random.default_rng(config.seed))
    groups = groups_by_block(latlon)
    images = known_images(bundle, embed_views(views, str(bundle.folder), raster=raster), latlon, groups.weights)
    return known_answers(open_naming(bundle), images.located(bundle.refinement), latlon, groups)


def joined(first: KnownAnswers, second: KnownAnswers) -> KnownAnswers:
    """Both, whose places are not the same."""
    numbers = np.concatenate([first.groups.numbers, second.groups.numbers + first.groups.count])
    arrays = {
        name: np.concatenate([value, getattr(second, name)])
        for name, value in vars(first).items()
        if isinstance(value, np.ndarray)
    }
    return KnownAnswers(groups=Groups(numbers=numbers, described=first.groups.described), **arrays)


def held(calibration: Calibration, known: KnownAnswers) -> dict[str, Any]:
    """What is stated of these answers, and what holds, by place; of unlike images nothing is stated."""
    weights = known.groups.weights
    unlike = calibration.likeness.is_unlike(calibration.likeness.p_value(known.feature_distance))
    radii = calibration.radius.radii_km(known.feature_distance, known.spread_km)
    half, most = (np.where(unlike, np.nan, known.error_km <= radius) for radius in radii)
    score = calibration.radius.score(known.feature_distance, known.spread_km)
    certain = np.argsort(score, kind="stable")
    fifths = fifths_of(certain, weights)
    row = {
        "unlike": weighted_mean(unlike, weights),
        "unlike_by_photo": float(unlike.mean()),
        "covered_50": weighted_mean(half, weights),
        "covered_90": weighted_mean(most, weights),
        "covered_50_by_photo": weighted_mean(half),
        "covered_90_by_photo": weighted_mean(most),
        "median_radius_km_90": float(np.median(radii[1])),
    }
    for number in range(NUM_FIFTHS):
        inside = fifths == number
        row |= {
            f"fifth_{number + 1}_50": weighted_mean(half[inside], weights[inside]),
            f"fifth_{number + 1}_90": weighted_mean(most[inside], weights[inside]),
        }
    row |= _errors_of_probability(calibration.probability, known, unlike, "after")
    row |= _errors_of_probability(None, known, unlike, "before")
    kept = certain[np.cumsum(weights[certain]) <= (1 - ABSTAIN) * known.groups.count]
    near = known.error_km < 25.0
    return row | {"within_25": weighted_mean(near, weights),
                  "within_25_of_certain": weighted_mean(near[kept], weights[kept])}  # fmt: skip


def _errors_of_probability(
    stating: ProbabilityCalibration | None, known: KnownAnswers, unlike: np.ndarray, when: str
) -> dict[str, float]:
    """The calibration errors of cell, region and country; without fitting, of what candidates are ranked by."""
    candidates = stating.candidates(known.candidate_probability) if stating else known.candidate_probability
    stating = stating or ProbabilityCalibration()
    region = stating.region((candidates * known.same_region).sum(axis=1))
    levels = {
        "cell": (candidates[np.arange(len(known)), known.winner], known.true_candidate == known.winner),
        "region": (region, known.right_region),
        "country": (
            np.maximum(region, stating.country((candidates * known.same_country).sum(axis=1))), known.right_country),
    }  # fmt: skip
    bootstrap = Bootstrap(groups=known.groups, num_draws=1)
    found = {}
    for level, (stated, right) in levels.items():
        says = reliability(np.where(unlike, np.nan, stated), right, bootstrap)
        found[f"ece_{level}_{when}"] = float("nan") if says is None else float(says["ece"])
    return found


def of_splits(known: KnownAnswers) -> list[dict[str, Any]]:
    """A row a random split: fitted on one half of the blocks, looked at on the other."""
    rows = []
    for seed in range(NUM_SPLITS):
        fit, held_out = next(folds(known.groups, 2, seed))
        rows.append(held(fit_calibration(known.take(fit)), known.take(held_out)))
    return rows


def pictures(kind: str, rng: np.random.Generator) -> list[bytes]:
    """JPEG of noise of several grains, flags, drawings or maps, at random."""
    make: dict[str, Callable[[np.random.Generator], Image.Image]] = {
        "noise": _noise, "flags": _flag, "drawings": _drawing, "maps": _map,
    }  # fmt: skip
    found = []
    for _ in range(NUM_PICTURES):
        buffer = io.BytesIO()
        make[kind](rng).convert("RGB").save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def _color(rng: np.random.Generator, least: int = 0) -> tuple[int, ...]:
    return tuple(rng.integers(least, 256, 3).tolist())


def _noise(rng: np.random.Generator) -> Image.Image:
    side = int(rng.choice([4, 16, 64, 128]))
    grains = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
    return grains.resize((128, 128), Image.Resampling(int(rng.integers(0, 4))))


def _flag(rng: np.random.Generator) -> Image.Image:
    flag, stripes, lying = Image.new("RGB", (192, 128)), int(rng.integers(2, 5)), rng.random() < 0.5
    draw = ImageDraw.Draw(flag)
    for number in range(stripes):
        low, high = number / stripes, (number + 1) / stripes
        box = (0, 128 * low, 192, 128 * high) if lying else (192 * low, 0, 192 * high, 128)
        draw.rectangle(box, fill=_color(rng))
    if rng.random() < 0.4:
        draw.ellipse((70, 40, 120, 90), fill=_color(rng))
    return flag


def _drawing(rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (160, 160), _color(rng, 180))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(5, 40))):
        points = [tuple(point) for point in rng.integers(0, 160, (int(rng.integers(2, 5)), 2)).tolist()]
        if len(points) > 2 and rng.random() < 0.4:
            draw.polygon(points, fill=_color(rng))
        else:
            draw.line(points, fill=_color(rng), width=int(rng.integers(1, 5)))
    return picture


def _map(rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (160, 160), (242, 239, 233))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 4))):
        points = [tuple(point) for point in rng.integers(-30, 190, (5, 2)).tolist()]
        draw.polygon(points, fill=[(170, 211, 223), (200, 250, 204), (224, 223, 223)][int(rng.integers(0, 3))])
    for _ in range(int(rng.integers(5, 20))):
        ends = [tuple(point) for point in rng.integers(-20, 180, (2, 2)).tolist()]
        road = [(255, 255, 255), (252, 214, 164), (232, 146, 162), (180, 180, 180)][int(rng.integers(0, 4))]
        draw.line(ends, fill=road, width=int(rng.integers(1, 6)))
    return picture


def called_unlike(bundle: Bundle, contents: list[bytes], calibration: Calibration) -> float:
    """The share of pictures that the test of likeness finds, of those that can be read."""
    names = [str(number) for number in range(len(contents))]
    graph = calibration_graph(bundle)
    batch = source_batch(names, names, list(contents), [""] * len(contents))
    (located,) = run_local(graph, [batch])
    known = located["problem"] == ""
    p_values = calibration.likeness.p_value(located["feature_distance"][known])
    return float(calibration.likeness.is_unlike(p_values).mean())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="earth-tiny", help="a bundle of cells (default: %(default)s)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="JPEG photos of another kind, to be found unlike")
    parser.add_argument("--raster", default=earth.RASTERS[1], help="other imagery (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    with connected("local"):
        validation, test = embedded(bundle, "validation"), embedded(bundle, "test")
        other = embedded(bundle, "test", options.raster)
    rows = of_splits(joined(validation, test))
    print(f"{NUM_SPLITS} random halves of {joined(validation, test).groups.count:,} blocks: mean, least, most")
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"  {name:24}{np.mean(values):8.3f}{min(values):8.3f}{max(values):8.3f}", flush=True)
    calibration = fit_calibration(validation)
    on = {"test places": held(calibration, test), f"in {options.raster}": held(calibration, other)}
    print("fitted on the validation places:")
    for name in on["test places"]:
        print(f"  {name:24}" + "".join(f"{where}: {row[name]:8.3f}   " for where, row in on.items()), flush=True)
    rng = np.random.default_rng(0)
    odd = {kind: pictures(kind, rng) for kind in ("noise", "flags", "drawings", "maps")}
    if options.photos:
        paths = sorted(glob.glob(f"{options.photos}/**/*.jp*g", recursive=True))
        odd["photos"] = [Path(path).read_bytes() for path in paths]
    shares = {kind: called_unlike(bundle, contents, calibration) for kind, contents in odd.items()}
    for kind, share in shares.items():
        print(f"  called unlike of {len(odd[kind])} {kind}: {share:.1%} (level {calibration.likeness.level:g})")
    write_json(options.json, {"splits": rows, "on": on, "unlike": shares})
