"""From a training table to a bundle of geocells: pretrain, cells, embed, head, index, calibrate (PIGEON, figure 2).

Each step leaves what it has made in the output folder, and is not done again when the chain is run again.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from safetensors.torch import load_file

from geo_ray.atlas.boundaries import boundaries
from geo_ray.cells.partition import Partition
from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.cells.semantic import Semantic
from geo_ray.errors import InputError
from geo_ray.evaluation.bootstrap import groups_by_block
from geo_ray.evaluation.refinement import known_images
from geo_ray.geo.metrics import error_metrics
from geo_ray.index.prototypes import Clustering
from geo_ray.index.refine import PRESETS, Refinement
from geo_ray.models.bundle import Bundle, open_bundle
from geo_ray.models.bundle_writing import Words, write_encoder
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.clip import TOWER
from geo_ray.models.hub import fetch_checkpoint
from geo_ray.models.published import encoder_spec, image_tower
from geo_ray.remote.cell_tasks import build_cells
from geo_ray.train.address_task import AddressWork
from geo_ray.train.cell_task import CellConfig, CellWork, fit_scalers, write_scalers
from geo_ray.train.cells_bundle import Answering, KnownFeatures, clear, write_answering
from geo_ray.train.clip_model import trained_state, write_trained
from geo_ray.train.clip_task import ClipConfig, ClipWork
from geo_ray.train.config import Scale
from geo_ray.train.crop_task import CELLS
from geo_ray.train.embedding import embed_table, feature_arrays
from geo_ray.train.progress import Watching
from geo_ray.train.run_folder import BEST, PROGRESS, WEIGHTS, RunFolder
from geo_ray.train.table_reading import open_table, read_rows
from geo_ray.train.table_stream import Feed, rows_needed
from geo_ray.train.trainer import run_work

FITTED = ("logit_temperature", "num_cells", "temperature", "max_distance_km")
MODEL = "model"  # the folder of a trained CLIP, in the format of transformers


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """The settings of all steps.

    Without ``clip`` the ``checkpoint`` is taken as it is; with it, it goes on learning from captions first.
    ``features`` are what the head and the index see; with ``num_views`` above 1 the mean of as many views of a place.
    With ``head.with_tower`` the tower is trained with its head, on single images, but for what ``head.frozen`` names.
    """

    checkpoint: str
    head: CellConfig
    cells: Semantic
    partition: Literal["semantic", "rectangles"] = "semantic"  # rectangles: PIGEON's naive cells, of the same sizes
    clip: ClipConfig | None = None
    features: Literal["projected", "tokens"] = "tokens"
    num_views: int = 1
    preset: Literal["pigeon", "pigeotto"] = "pigeon"
    clustering: Clustering = dataclasses.field(default_factory=Clustering)

    @property
    def start(self) -> Refinement:
        """Where the refinement's fitting starts."""
        return PRESETS[self.preset]


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a chain or training is given by whoever runs it: a table, workers, who watches, and whom to tell.

    With ``storage``, a folder or prefix that all nodes reach, checkpoints lie there and not in the output.
    """

    table: str
    scale: Scale = dataclasses.field(default_factory=Scale)
    watching: Watching = dataclasses.field(default_factory=Watching)
    say: Callable[[str], None] = print
    storage: str = ""

    def folder(self, output: Path) -> RunFolder:
        """Where the training that makes ``output`` is kept."""
        return RunFolder(f"{self.storage.rstrip('/')}/{output.name}" if self.storage else output)


def run_streamed(work: ClipWork | CellWork | AddressWork, folder: RunFolder, place: Place, name: str) -> RunFolder:
    """Run a training whose images Ray Data streams from a table."""
    reading = work.reading()
    work = work.with_steps(reading.table.num_rows)
    config = work.config
    most = max(place.scale.num_workers, place.scale.max_workers)
    needed = rows_needed(config.num_steps, config.batch_size, most, config.accumulation)
    return run_work(
        work,
        folder,
        place.scale,
        name=name,
        data={"table": reading.table.digest},
        datasets=lambda folder: {"train": Feed(reading=reading, folder=folder, needed=needed)},
        watching=place.watching,
        say=place.say,
    )


def pretrain(config: ClipConfig, output: Path, place: Place) -> Path:
    """Train a CLIP on a table's captions; returns the folder ``output``/model, which others read as a ``CLIPModel``."""
    return trained_clip(ClipWork(config=config, table=place.table), output, place, "contrastive pretraining")


def trained_clip(work: ClipWork | AddressWork, output: Path, place: Place, name: str) -> Path:
    """Train both towers of a CLIP; returns the folder ``output``/model, in the format of what was trained on from."""
    folder = run_streamed(work, place.folder(output), place, name)
    _bring_progress(folder, output)
    model = output / MODEL
    if not model.exists():
        state = trained_state(load_file(_best(folder, output)))
        partial = clear(model.with_name(MODEL + ".partial"))
        write_trained(partial, work.read(), state)
        partial.rename(model)
    return model


def _best(folder: RunFolder, output: Path) -> Path:
    """The weights that validation found best, or the last ones, as a file of this machine."""
    name = BEST if BEST in folder.names("") else WEIGHTS
    return folder.fetch(name, output / name)


def _bring_progress(folder: RunFolder, output: Path) -> None:
    """Bring a run's figures to the output's curves, where it was kept elsewhere."""
    if folder.local is None:
        folder.fetch(PROGRESS, output / PROGRESS)


def run_chain(config: ChainConfig, output: Path, place: Place) -> Path:
    """Make the bundle ``output``/bundle of a table; returns its folder. Needs a connected Ray."""
    say = place.say
    output.mkdir(parents=True, exist_ok=True)
    bundle = output / "bundle"
    checkpoint = config.checkpoint
    if config.clip is not None:
        say("1 of 6: contrastive pretraining")
        checkpoint = str(pretrain(dataclasses.replace(config.clip, checkpoint=checkpoint), output / "clip", place))
    words = _words(config, place.table)
    encoder = _encoder(config, checkpoint, output / "encoder", words)
    say("2 of 6: cells")
    cells = output / CELLS
    if not cells.exists():
        write_partition(_partition(config, _places(config, place.table)), cells.with_suffix(".partial"))
        cells.with_suffix(".partial").rename(cells)
    partition = read_partition(cells)
    head = None
    if config.head.with_tower:
        say(f"3 of 6: head for {len(partition):,} cells, with the tower")
        encoder, head = _train_tower(config, encoder, cells, output, place, words)
    say("embedding" if head is not None else "3 of 6: embedding")
    features = str(output / "features")
    workers = place.scale.num_workers
    embed_table(place.table, encoder.ref, features, num_views=config.num_views, num_workers=workers,
                num_threads=place.scale.threads_per_worker)  # fmt: skip
    known = {split: _known(features, split) for split in ("train", "validation", "test")}
    if head is None:
        say(f"4 of 6: head for {len(partition):,} cells")
        head = train_head(config.head, features, encoder, cells, output / "head", place)
    say("5 of 6: index, refinement and calibration")
    if not (bundle / "bundle.json").exists():
        write_answering(
            clear(bundle),
            encoder=encoder,
            partition=partition,
            head=head,
            members=known["train"],
            validation=known["validation"],
            answering=Answering(start=config.start, fitted=FITTED, clustering=config.clustering, filed_by="polygon"),
            words=words,
            say=say,
        )
    say("6 of 6: evaluation on the test images")
    metrics = evaluate_features(open_bundle(str(bundle.resolve())), known["test"])
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    say(f"by place: median {metrics['refined']['median_error_km']:.1f} km, cell centre "
        f"{metrics['cell_centre']['median_error_km']:.1f} km, of {metrics['num_places']} places")  # fmt: skip
    return bundle


def _places(config: ChainConfig, table: str) -> Float64[np.ndarray, "n 2"]:
    """Where the training images were taken, each place once where views are averaged."""
    rows = read_rows(open_table(table), ("latitude", "longitude", "place"))
    latlon = np.stack([rows[name].to_numpy() for name in ("latitude", "longitude")], axis=1)
    if config.num_views == 1:
        return latlon
    _, first = np.unique(np.array(rows["place"].to_pylist()), return_index=True)
    return np.asarray(latlon[np.sort(first)])


def _train_tower(
    config: ChainConfig, encoder: Bundle, cells: Path, output: Path, place: Place, words: Words
) -> tuple[Bundle, dict[str, torch.Tensor]]:
    """A tower trained with its head on the images themselves, as an encoder, and the head."""
    folder = place.folder(output / "head")
    folder.write(CELLS, cells.read_bytes())
    write_scalers(fit_scalers(place.table, config.head) if config.head.covariates else {}, folder)
    work = CellWork(config=config.head, table=place.table, encoder=encoder.ref)
    run_streamed(work, folder, place, "geocell head with its tower")
    _bring_progress(folder, output / "head")
    state = load_file(_best(folder, output / "head"))
    target = output / "trained-encoder"
    if not (target / "bundle.json").exists():
        tower = {name.removeprefix(TOWER): t for name, t in state.items() if name.startswith(TOWER)}
        write_encoder(clear(target), tower, encoder.encoder, words)
    return open_bundle(str(target.resolve())), {name: state[f"head.{name}"].float() for name in ("weight", "bias")}


def _partition(config: ChainConfig, latlon: Float64[np.ndarray, "n 2"]) -> Partition:
    if config.partition == "rectangles":
        return build_rectangles(latlon, config.cells.sizes)
    return build_cells(boundaries(), latlon, config.cells)


def train_head(
    config: CellConfig, features: str, encoder: Bundle, cells: Path, output: Path, place: Place
) -> dict[str, torch.Tensor]:
    """A geocell head trained on a table with features: ``weight`` and ``bias``, the best by validation."""
    folder = place.folder(output)
    folder.write(CELLS, cells.read_bytes())
    write_scalers(fit_scalers(features, config) if config.covariates else {}, folder)
    work = CellWork(config=config, table=features, encoder=encoder.ref)
    run_streamed(work, folder, dataclasses.replace(place, table=features), "geocell head")
    _bring_progress(folder, output)
    state = load_file(_best(folder, output))
    return {name: state[f"head.{name}"].float() for name in ("weight", "bias")}


def _encoder(config: ChainConfig, checkpoint: str, folder: Path, words: Words) -> Bundle:
    """The bundle of the image tower alone, whose features are asked for."""
    if (folder / "bundle.json").exists():
        return open_bundle(str(folder.resolve()))
    read = read_checkpoint(fetch_checkpoint(checkpoint).folder)
    changes: dict[str, Any] = {}
    if config.features == "tokens":
        width = read.config["vision_cfg"]["width"]
        changes = {"features": "tokens", "num_features": width, "normalize": False}
    return write_encoder(clear(folder), image_tower(read), encoder_spec(read, **changes), words)


def _known(features: str, split: str) -> KnownFeatures:
    found, latlon, _ = feature_arrays(features, split)
    return KnownFeatures(features=found, latlon=latlon)


def _words(config: ChainConfig, table: str) -> Words:
    return Words(
        description=f"geocells after {config.preset.upper()}, trained on {Path(table).name}",
        licence="that of the photos and of the checkpoint",
        attribution="Cells: geoBoundaries and Natural Earth.",
        provenance={"config": json.loads(json.dumps(dataclasses.asdict(config))), "checkpoint": config.checkpoint},
    )


def evaluate_features(bundle: Bundle, known: KnownFeatures) -> dict[str, Any]:
    """Errors by place of a bundle of cells on features of known places: refined, and of the best cell's centre."""
    if not len(known.latlon):
        raise InputError("no test images; build the table with more")
    groups = groups_by_block(known.latlon)
    images = known_images(bundle, known.features, known.latlon, groups.weights)
    return {
        "num_images": len(known.latlon),
        "num_places": groups.count,
        "refined": error_metrics(images.errors_km(bundle.refinement), groups.weights),
        "cell_centre": error_metrics(images.centre_errors_km(), groups.weights),
    }


def check_table(uri: str) -> str:
    """The table's address, where there is one; ``InputError`` says how to make one."""
    if not uri:
        raise InputError("which images? name a training table with --table; geo-ray table builds one")
    open_table(uri)
    return uri
