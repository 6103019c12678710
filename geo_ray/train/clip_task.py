"""Contrastive pretraining of a CLIP on photos with captions drawn from what is known of their places.

PIGEON's and PIGEOTTO's third step (arXiv 2307.05845, appendix B.2), and StreetCLIP's only one (arXiv 2302.00275).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import ray.train
import torch
from torch import nn

from geo_ray.atlas.climate import ZONES
from geo_ray.errors import InputError
from geo_ray.models.checkpoints import ClipCheckpoint, read_checkpoint
from geo_ray.models.contrastive import Contrast, holds, image_text_contrastive
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.hub import fetch_checkpoint
from geo_ray.models.published import encoder_spec
from geo_ray.train.caption_samplers import (
    SAMPLERS,
    Sampler,
    Scene,
    rng_of,
    said_of,
    streetclip,
    template_sampler,
)
from geo_ray.train.captions import country_words, number_of
from geo_ray.train.clip_model import ClipTowers, fitting_tokens, normalized
from geo_ray.train.config import LoopConfig
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.table_reading import Reading, decode_rows, open_table, plain, read_rows
from geo_ray.train.table_stream import TableStream, batch_sizes, with_steps
from geo_ray.train.task import Stream

KNOWN = ("country", "region", "town", "climate", "drive_side", "month", "heading", "view")
VALIDATION_EPOCH = 10**9  # of the captions' draws: no epoch of training


@dataclass(frozen=True, kw_only=True)
class ClipConfig(LoopConfig):
    """Which checkpoint goes on learning, from which captions, and how pairs are told apart.

    ``checkpoint`` is what ``geo-ray bundle import`` reads: a folder, a prefix, or a name on the hub. ``batch_size`` are
    the pairs of a step over all workers and all parts of it. With ``captions="pigeon"`` and so on they are drawn anew
    by seed, epoch and row.
    """

    checkpoint: str = "openai/clip-vit-large-patch14-336"
    captions: Literal["pigeon", "pigeotto", "streetclip"] = "streetclip"
    template: str = ""  # captions of one's own in place of these: "A photo of {town}, {country}.|In {region}."
    epochs: float = 0.0  # above 0, they make num_steps
    batch_size: int = 384
    num_views: int = 4  # of a place, evenly around, where headings are told
    shuffled_rows: int = 2048  # of each worker, that wait to be drawn from

    positives: Literal["subsumed", "own"] = "subsumed"
    negatives: Literal["global", "local"] = "global"
    loss: Literal["infonce", "sigmoid"] = "infonce"
    reference_size: int = 0
    chunk: int = 1024
    num_validation: int = 2048

    @property
    def contrast(self) -> Contrast:
        """How pairs are told apart."""
        return Contrast(loss=self.loss, negatives=self.negatives, reference_size=self.reference_size, chunk=self.chunk)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("batch_size", "num_views", "num_validation")
        if self.captions not in SAMPLERS:
            raise ValueError(f"captions={self.captions!r} must be one of {', '.join(SAMPLERS)}")
        if self.positives not in ("subsumed", "own"):
            raise ValueError(f"positives={self.positives!r} must be 'subsumed' or 'own'")
        _ = self.contrast, self.sampler  # check their own

    @property
    def sampler(self) -> Sampler:
        """What draws captions."""
        return template_sampler(self.template) if self.template else SAMPLERS[self.captions]


@dataclass(frozen=True, kw_only=True)
class CaptionedBatch:
    """Pixels (B, S, S, 3) of 0 to 255, tokens (B, T) of their captions, what is true and said of them, and ids."""

    pixels: torch.Tensor
    tokens: torch.Tensor
    true: torch.Tensor
    said: torch.Tensor
    ids: list[str]


def scenes_of(columns: dict[str, np.ndarray], num_views: int) -> list[Scene]:
    """What captions may say of rows of a training table, as ``table_stream.plain`` has them."""
    zones = list(ZONES.values())
    rows = zip(*(columns[name].tolist() for name in KNOWN), strict=True)
    return [
        Scene(
            country=country_words(country) if country else "",
            region=region,
            town=town,
            climate=zones[climate] if climate >= 0 else "",
            drive_side=side,
            month=month if month > 0 else None,
            heading=None if np.isnan(heading) else heading,
            view=max(view, 0),
            num_views=num_views,
        )
        for country, region, town, climate, side, month, heading, view in rows
    ]


class ClipTask:
    """Both towers of a checkpoint, and the contrast of images with their captions."""

    best = "caption_recall_at_1"

    def __init__(self, config: ClipConfig, checkpoint: ClipCheckpoint, validation: dict[str, np.ndarray]) -> None:
        self._config, self._checkpoint, self._validation = config, checkpoint, validation
        self.model: nn.Module = ClipTowers(checkpoint.config, checkpoint.state)

    def losses(self, model: nn.Module, batch: CaptionedBatch) -> dict[str, torch.Tensor]:
        """The contrast as ``total``, and the scale that it has reached."""
        images, texts, scale = self._features(model, batch)
        true, said = batch.true.to(images.device), batch.said.to(images.device)
        total = image_text_contrastive(images, texts, true, said, scale, self._config.contrast)
        return {"total": total, "logit_scale": scale}

    def _features(self, model: nn.Module, batch: CaptionedBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        device = next(model.parameters()).device
        pixels = normalized(batch.pixels.to(device), self._checkpoint.image_mean, self._checkpoint.image_std)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            images, texts, scale = model(pixels, batch.tokens.to(device))
        return images, texts, scale

    def ids(self, batch: CaptionedBatch) -> list[str]:
        """The images' ids."""
        return batch.ids

    def batch_of(self, rows: dict[str, np.ndarray], whole: bool = False) -> CaptionedBatch:
        """Rows of a table with their captions; ``whole`` ones say all, as StreetCLIP's do."""
        scenes = scenes_of(rows, self._config.num_views)
        sampler = streetclip if whole else self._config.sampler
        epochs, numbers = rows["epoch"].tolist(), rows["row"].tolist()
        texts = [
            sampler(scene, rng_of(self._config.seed, epoch, number))
            for scene, epoch, number in zip(scenes, epochs, numbers, strict=True)
        ]
        facts = [scene.facts() for scene in scenes]
        true = np.array([[number_of(fact) for fact in row] for row in facts], np.int64)
        said = np.where([said_of(scene, text) for scene, text in zip(scenes, texts, strict=True)], true, 0)
        if self._config.positives == "own":
            true = said = np.array(numbers, np.int64)[:, None] + 1
        length = self._checkpoint.config["text_cfg"].get("context_length", 77)
        return CaptionedBatch(
            pixels=torch.from_numpy(np.array(rows["pixels"])),
            tokens=fitting_tokens(texts, length, self._checkpoint.preprocessing),
            true=torch.from_numpy(true),
            said=torch.from_numpy(said),
            ids=rows["image_id"].tolist(),
        )

    def validate(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Whether an image's nearest caption, of those of this worker's images, is true of it."""
        count = len(self._validation["row"])
        parts = []
        for start in range(0, count, 64):
            batch = self.batch_of({k: v[start : start + 64] for k, v in self._validation.items()}, whole=True)
            images, texts, _ = self._features(model, batch)
            parts.append((images, texts, batch.true, batch.said))
        images, texts, true, said = (torch.cat(each) for each in zip(*parts, strict=True))
        nearest = (images @ texts.T).argmax(dim=1).cpu()
        right = holds(true, said)[torch.arange(count), nearest].double().numpy()
        return {"caption_recall_at_1": right, "place": self._validation["place"]}


class CaptionedStream:
    """A table's batches with their captions."""

    def __init__(self, task: ClipTask, stream: TableStream) -> None:
        self._task, self._stream = task, stream

    def __iter__(self) -> Any:
        return (self._task.batch_of(rows) for rows in self._stream)

    def state(self) -> dict[str, Any]:
        """As the table's stream."""
        return self._stream.state()


@dataclass(frozen=True, kw_only=True)
class ClipWork:
    """The training of a ``ClipTask`` on a table."""

    config: ClipConfig
    table: str

    def with_steps(self, num_rows: int) -> "ClipWork":
        """The same, with as many steps as its epochs of so many rows have."""
        return dataclasses.replace(self, config=with_steps(self.config, num_rows))

    def reading(self) -> Reading:
        """What is read of the table; ``InputError`` where it can't be."""
        return Reading(
            table=open_table(self.table, columns=(*KNOWN, "bytes", "uri")),
            columns=KNOWN,
            seed=self.config.seed,
            encoder=self.encoder(),
        )

    def encoder(self) -> EncoderSpec:
        """The checkpoint's image tower, as bundles describe it."""
        return encoder_spec(self.read())

    def read(self) -> ClipCheckpoint:
        """The checkpoint that is trained on from."""
        return read_checkpoint(fetch_checkpoint(self.config.checkpoint).folder)

    def open(self, folder: RunFolder, states: Sequence[dict[str, Any]]) -> tuple[ClipTask, Stream]:
        """The task, and this worker's batches."""
        checkpoint, reading = self.read(), self.reading()
        assert reading.encoder is not None
        rows = validation_rows(self.table, (*KNOWN, "place"), self.config.num_validation, reading.encoder)
        task = ClipTask(self.config, checkpoint, rows)
        shard = ray.train.get_dataset_shard("train")
        size = batch_sizes(self.config.batch_size, self.config.accumulation)
        stream = TableStream(reading, size, self.config.shuffled_rows, states, shard)
        return task, CaptionedStream(task, stream)


def validation_rows(
    table: str, columns: Sequence[str], most: int, encoder: EncoderSpec | None
) -> dict[str, np.ndarray]:
    """This worker's share of the first validation images of a table, decoded where an encoder sees them.

    ``place`` becomes a number. ``InputError`` where there is none.
    """
    images = ("bytes", "uri", "image_id") if encoder is not None else ("image_id",)
    opened = open_table(table, "validation", columns)
    rows = read_rows(opened, (*columns, *images), most, (rank(), world_size()))
    names = [*dict.fromkeys((*columns, "image_id", "row"))]
    found: dict[str, np.ndarray] = {}
    kept = np.arange(len(rows))
    if encoder is not None:
        decoded = decode_rows(rows, encoder)
        kept = np.flatnonzero(decoded["problem"] == "")
        found["pixels"] = decoded["pixels"][kept, 0]
    known = plain(rows.select(names).take(kept))
    for name in names:
        column = known[name].combine_chunks()
        found[name] = column.to_numpy_ndarray() if hasattr(column, "to_numpy_ndarray") else column.to_numpy(False)
    if "place" in found:
        found["place"] = np.array([number_of(place) for place in found["place"]], np.int64)
    if not len(kept) and world_size() == 1:
        raise InputError(f"no validation image of {table} can be decoded; build the table again")
    return found | {"epoch": np.full(len(kept), VALIDATION_EPOCH)}
