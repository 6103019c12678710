"""What each way of refining a cell guess is worth, on the embedded data.

    python jobs/compare_refinement.py --json out/refinement.json

The bundle's encoder, head and index for all; each way's parameters are fitted on the validation split, and the errors
are those of the held-out satellite crops, by place. Differences are to PIGEON's way, paired by place.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from geo_ray.benchmarks.by_place import difference_row, head_text, place_row, row_text
from geo_ray.benchmarks.rows import write_json
from geo_ray.datasets import earth
from geo_ray.evaluation.bootstrap import groups_by_block
from geo_ray.evaluation.refinement import KnownImages, known_images
from geo_ray.index.hubness import hubness
from geo_ray.index.refine import Refinement
from geo_ray.index.shard import Shard, open_shard
from geo_ray.models.bundle import INDEX, Bundle, open_bundle
from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.remote.runtime import connected
from geo_ray.train.config import TrainConfig
from geo_ray.train.gallery import embed_views
from geo_ray.train.places import train_locations

CELLS = ("logit_temperature", "num_cells")
PAPER = (*CELLS, "temperature", "max_distance_km")
PIGEON = "prototype, then its nearest member (PIGEON)"
# Each way: where its parameters start, and which of them are fitted.
WAYS: dict[str, tuple[Refinement, tuple[str, ...]]] = {
    "prototype": (Refinement(num_cells=40, temperature=0.05), PAPER),
    PIGEON: (Refinement(num_cells=40, temperature=0.05), PAPER),
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
    weights = groups_by_block(latlon).weights
    images = known_images(bundle, embed_views(views, str(bundle.folder)), latlon, weights)
    index = open_shard(bundle.path(INDEX)).index
    images.searcher = Shard(dataclasses.replace(index, member_hubness=hubness(index.member_features)))
    return images


def compare(validation: KnownImages, test: KnownImages) -> list[dict[str, Any]]:
    """A row a way: its fitted parameters, its metrics by place, and how it differs from PIGEON's."""
    both = [(with_prototypes_as_members(images), images) for images in (validation, test)]
    groups = groups_by_block(test.latlon)
    errors = {"cell centre": test.centre_errors_km()}
    parameters: dict[str, Any] = {"cell centre": None}
    for name, (start, fitted) in WAYS.items():
        known, held_out = (alone if name == "prototype" else whole for alone, whole in both)
        best = known.fit(start, known.choices(fitted))
        errors[name], parameters[name] = held_out.errors_km(best), dataclasses.asdict(best)
    rows = []
    print(f"{'':56}{head_text('PIGEON')}", flush=True)
    for name, error_km in errors.items():
        row, difference = place_row(error_km, groups), difference_row(error_km, errors[PIGEON], groups)
        rows.append({"name": name} | row | {"difference": difference, "parameters": parameters[name]})
        print(f"{name:56}{row_text(row, None if name == PIGEON else difference)}", flush=True)
    return rows


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
