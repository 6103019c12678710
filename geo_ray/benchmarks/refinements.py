"""What each way of refining a cell guess is worth, on the embedded data.

    python jobs/compare_refinement.py --json out/refinement.json

The bundle's encoder, head and index for all; each way's parameters are fitted on the validation split, and the errors
are those of the held-out satellite crops.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from geo_ray.benchmarks.rows import write_json
from geo_ray.datasets import earth
from geo_ray.evaluation.refinement import CHOICES, KnownImages, known_images
from geo_ray.geo.metrics import error_metrics
from geo_ray.index.hubness import hubness
from geo_ray.index.refine import Refinement
from geo_ray.index.shard import Shard, open_shard
from geo_ray.models.bundle import INDEX, Bundle, open_bundle
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.remote.runtime import connected
from geo_ray.train.config import TrainConfig
from geo_ray.train.gallery import embed_views
from geo_ray.train.places import train_locations

HEAD = ("logit_temperature", "num_cells")
PAPER = (*HEAD, "temperature", "max_distance_km")
# Each way: where its parameters start, and which of them are fitted.
WAYS: dict[str, tuple[Refinement, tuple[str, ...]]] = {
    "prototype": (Refinement(num_cells=40, temperature=0.05), PAPER),
    "prototype, then its nearest member (PIGEON)": (Refinement(num_cells=40, temperature=0.05), PAPER),
    "nearest member of the cell": (
        Refinement(num_cells=40, temperature=0.025, members="cell", nearness="member"), PAPER),
    "... averaged over candidates within 1,000 km": (
        Refinement(num_cells=40, temperature=0.025, members="cell", nearness="member", average_km=1000.0), PAPER),
    "... blended with members near it": (
        Refinement(num_cells=40, temperature=0.025, members="cell", nearness="member", num_members=8, blend_km=40.0,
                   member_temperature=0.03),
        (*PAPER, "blend_km", "member_temperature")),
    "nearest neighbour by cosine in 95 % of the probability": (
        Refinement(method="neighbours", num_cells=40, gate=0.95), ("logit_temperature",)),
    "... by CSLS": (
        Refinement(method="neighbours", num_cells=40, gate=0.95, measure="csls"), ("logit_temperature",)),
}  # fmt: skip


def with_prototypes_as_members(images: KnownImages) -> KnownImages:
    """The same images, with an index whose members are its prototypes."""
    assert isinstance(images.searcher, Shard)
    index = images.searcher.index
    alone = dataclasses.replace(
        index,
        member_offsets=np.arange(len(index.prototype_latlon) + 1),
        member_features=index.prototype_features,
        member_latlon=index.prototype_latlon,
        member_ids=None,
        member_hubness=None,
    )
    return dataclasses.replace(images, searcher=Shard(alone), _found={})


def embedded(bundle: Bundle, config: TrainConfig, split: str) -> KnownImages:
    """Jittered crops of a split's places, by the bundle's encoder, with its index and each member's hubness."""
    latlon = train_locations(config, split)
    views = earth.jittered_views(latlon, np.random.default_rng(config.seed))
    images = known_images(bundle, embed_views(views, str(bundle.folder)), latlon)
    index = open_shard(bundle.path(INDEX)).index
    images.searcher = Shard(dataclasses.replace(index, member_hubness=hubness(index.member_features)))
    return images


def compare(validation: KnownImages, test: KnownImages) -> list[dict[str, Any]]:
    """A row a way: its fitted parameters and its metrics."""
    both = [(with_prototypes_as_members(images), images) for images in (validation, test)]
    rows = [{"name": "cell centre"} | error_metrics(test.centre_errors_km())]
    print(f"{'':56}{'median':>12}{'25 km':>10}{'200 km':>10}\n{text_of(rows[0])}", flush=True)
    for name, (start, fitted) in WAYS.items():
        known, held_out = (alone if name == "prototype" else whole for alone, whole in both)
        best = known.fit(start, {field: CHOICES[field] for field in fitted})
        row = {"name": name} | error_metrics(held_out.errors_km(best)) | {"parameters": dataclasses.asdict(best)}
        rows.append(row)
        print(text_of(row), flush=True)
    return rows


def text_of(row: dict[str, Any]) -> str:
    """A line of the table."""
    shares = "".join(f"{row['accuracy_at_km'][km]:10.2%}" for km in ("25", "200"))
    return f"{row['name']:56}{row['median_error_km']:9.2f} km{shares}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="earth-tiny", help="a bundle of cells (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    bundle, (config, _) = open_bundle(options.bundle), earth_tiny()
    with connected("local"):
        rows = compare(embedded(bundle, config, "validation"), embedded(bundle, config, "test"))
    write_json(options.json, rows)
