"""Whether captions carry over to countries never seen: several draws of countries, with and without their borders.

    python jobs/compare_zero_shot.py --json out/zero-shot-draws.json

The form of the captions and the distance kept to held-out countries were chosen on the first draw; reported are others,
that share no country with it or with each other. Each draw is trained twice: with all places outside the held-out
countries, whose crops show some of what lies beyond the border, and as a control with none within 300 km, so that not a
pixel of a held-out country is seen. Counted is how often a country is told from the others of its draw, each country
alike; with the captions shuffled among the countries of a draw, the same answers say what chance does.
"""

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from geo_ray.benchmarks.crops import write_crops
from geo_ray.benchmarks.rows import write_json
from geo_ray.benchmarks.transfer import accuracy, accuracy_by_class, shuffled_accuracies
from geo_ray.benchmarks.unseen_countries import COUNTRY, ranked_countries
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.recipes.earth_captions import earth_captions
from geo_ray.remote.runtime import connected
from geo_ray.train.caption_bundle import assemble_captions
from geo_ray.train.caption_config import CaptionConfig
from geo_ray.train.crop_runs import train_captions
from geo_ray.train.held_out import photo_places


def measure(config: CaptionConfig, encoder: EncoderSpec, folder: Path) -> dict[str, Any]:
    """Train without a draw's countries, and tell their crops apart by captions."""
    shutil.rmtree(folder, ignore_errors=True)
    with connected("local"):
        weights, held_out = train_captions(config, folder)
        assemble_captions(config, weights, held_out, encoder, folder / "bundle")
    photos = photo_places()
    places = photos.take(np.isin(photos.countries, held_out))
    write_crops(folder, places.latlon, np.random.default_rng(config.seed), {COUNTRY: places.countries})
    best, true = ranked_countries(folder, str(folder / "bundle"), held_out)
    shuffled = shuffled_accuracies(best[:, 0], true, np.random.default_rng((config.seed, config.draw)))
    return {
        "draw": config.draw,
        "apart_km": config.apart_km,
        "num_steps": config.num_steps,
        "held_out": held_out,
        "num_images": len(true),
        **accuracy(best[:, 0] == true, true),
        "by_country": accuracy_by_class(best[:, 0] == true, true),
        "shuffled": shuffled.tolist(),
    }


def pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over draws beside the means of shuffles; ``p_value`` is the share of shuffles that do as well."""
    shuffled: Float64[np.ndarray, "s"] = np.mean([row["shuffled"] for row in rows], axis=0)
    mean = float(np.mean([row["classes"] for row in rows]))
    return {
        "draws": [row["draw"] for row in rows],
        "apart_km": rows[0]["apart_km"],
        "classes": mean,
        "shuffled_mean": float(shuffled.mean()),
        "shuffled_max": float(shuffled.max()),
        "p_value": float((1 + np.count_nonzero(shuffled >= mean)) / (1 + len(shuffled))),
    }


def row_text(row: dict[str, Any]) -> str:
    """A row of the table."""
    shuffled = np.array(row["shuffled"])
    return (
        f"draw {row['draw']}, {row['apart_km']:3g} km apart {row['num_images']:7,} images"
        f"{row['classes']:9.1%} of countries; shuffled {shuffled.mean():.1%} in the mean, {shuffled.max():.1%} at most"
    )


def pooled_text(row: dict[str, Any]) -> str:
    """What all draws say together."""
    return (
        f"all {len(row['draws'])} draws, {row['apart_km']:g} km apart: {row['classes']:.1%} of countries; shuffled "
        f"{row['shuffled_mean']:.1%} in the mean, {row['shuffled_max']:.1%} at most (p = {row['p_value']:.3f})"
    )


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/zero-shot-draws"))
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--apart-km", type=float, nargs="+", default=[0.0, 300.0])
    parser.add_argument("--num-steps", type=int, help="of each training (default: the recipe's)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    config, encoder = earth_captions()
    rows: list[dict[str, Any]] = []
    for draw in options.draws:
        for apart_km in options.apart_km:
            steps = options.num_steps or config.num_steps
            changed = dataclasses.replace(config, draw=draw, apart_km=apart_km, num_steps=steps)
            rows.append(measure(changed, encoder, (options.output / f"{draw}-{apart_km:g}").resolve()))
            print(row_text(rows[-1]), flush=True)
            write_json(options.json, {"draws": rows})
    together = [pooled([row for row in rows if row["apart_km"] == apart_km]) for apart_km in options.apart_km]
    print("\n".join(["", *map(row_text, rows), *map(pooled_text, together)]))
    write_json(options.json, {"draws": rows, "together": together})
