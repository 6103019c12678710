"""AddressCLIP's training (arXiv 2407.08156): images with their addresses and captions, near in features where in place.

Shapes: B pairs of this worker, T tokens, D features.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import ray.train
import torch
from jaxtyping import Float, Int
from torch import nn

from geo_ray.atlas.streets import local_xy
from geo_ray.errors import InputError
from geo_ray.geo.sphere import spherical_mean
from geo_ray.models.checkpoints import ClipCheckpoint, read_checkpoint
from geo_ray.models.contrastive import Contrast, gathered, image_text_contrastive
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.hub import fetch_checkpoint
from geo_ray.models.losses import geography_loss
from geo_ray.models.published import encoder_spec
from geo_ray.models.texts import encode_tokens
from geo_ray.models.tokenizer import Library, clip_tokenizer
from geo_ray.train.captions import number_of
from geo_ray.train.clip_model import ClipTowers, normalized
from geo_ray.train.clip_task import validation_rows
from geo_ray.train.config import LoopConfig
from geo_ray.train.run_folder import RunFolder
from geo_ray.train.table_reading import Reading, open_table, read_rows
from geo_ray.train.table_stream import TableStream, batch_sizes, with_steps
from geo_ray.train.task import Stream

COLUMNS = ("address", "caption", "latitude", "longitude")
PLACES_READ = 100_000  # of a table, for the middle of its city
TEXTS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class AddressConfig(LoopConfig):
    """Which checkpoint goes on learning, and how much each of the three losses weighs.

    ``checkpoint`` is what ``geo-ray bundle import`` reads. ``batch_size`` are the images of a step over all workers.
    With ``positives="same"`` all images of an address are right for it; with "own" each is right for its own text
    alone, as plain InfoNCE has it. Captions come from the table's column, before the address or ``alone``. For
    ``geography`` and ``radius_m`` (0: scaled by each batch) see ``models.losses.geography_loss``.
    """

    checkpoint: str = "openai/clip-vit-base-patch16"
    epochs: float = 0.0
    batch_size: int = 256
    shuffled_rows: int = 2048

    address_weight: float = 1.0
    caption_weight: float = 0.2
    geography_weight: float = 0.8
    captions: Literal["before_address", "alone"] = "before_address"
    geography: Literal["near", "quoted"] = "near"
    radius_m: float = 0.0
    positives: Literal["same", "own"] = "same"
    negatives: Literal["global", "local"] = "global"
    chunk: int = 1024
    num_candidates: int = 20  # that the bundle weighs for an image
    num_validation: int = 2048

    @property
    def contrast(self) -> Contrast:
        """How pairs are told apart."""
        return Contrast(negatives=self.negatives, chunk=self.chunk)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("batch_size", "num_validation", "num_candidates")
        choices = {"captions": ("before_address", "alone"), "geography": ("near", "quoted"),
                   "positives": ("same", "own")}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(known)}")
        weights = (self.address_weight, self.caption_weight, self.geography_weight)
        if min(weights) < 0 or self.address_weight + self.caption_weight <= 0:
            raise ValueError(f"weights of {weights} must not be below 0, and address or caption above it")
        _ = self.contrast


class AddressTowers(ClipTowers):
    """Both towers, of which the text tower reads texts of any length."""

    def forward(
        self, pixels: Float[torch.Tensor, "B 3 S S"], tokens: Int[torch.Tensor, "L T"]
    ) -> tuple[Float[torch.Tensor, "B D"], Float[torch.Tensor, "L D"], Float[torch.Tensor, ""]]:
        """Image and text features of length one, and the scale (see ``heads.limit_logit_scale``)."""
        images = nn.functional.normalize(self.clip.encode_image(pixels).float(), dim=1)
        return images, encode_tokens(self.clip, tokens), self.clip.logit_scale.float().exp()


def joined_tokens(captions: Sequence[str], addresses: Sequence[str], length: int, library: Library) -> np.ndarray:
    """Tokens of captions, each followed by its address; where both are too long the caption loses its end.

    ``InputError`` quotes an address that is too long alone.
    """
    tokens = np.zeros((len(addresses), length), np.int64)
    for row, (caption, address) in enumerate(zip(captions, addresses, strict=True)):
        last = _ids(address, length, library) if address else ()
        first = _ids_of_caption(caption, library)[: length - 2 - len(last)]
        tokenizer = clip_tokenizer_of(library)
        ids = [tokenizer.sot_token_id, *first, *last, tokenizer.eot_token_id]
        tokens[row, : len(ids)] = ids
    return tokens


@lru_cache(maxsize=4)
def clip_tokenizer_of(library: Library) -> Any:
    """CLIP's tokenizer, made once."""
    return clip_tokenizer(library)


@lru_cache(maxsize=200_000)
def _ids(text: str, length: int, library: Library) -> tuple[int, ...]:
    ids = tuple(clip_tokenizer_of(library).encode(text))
    if len(ids) > length - 2:
        raise InputError(f"the address {text!r} has {len(ids) + 2} tokens, the model reads {length}; shorten it")
    return ids


@lru_cache(maxsize=200_000)
def _ids_of_caption(text: str, library: Library) -> tuple[int, ...]:
    return tuple(clip_tokenizer_of(library).encode(text))


@dataclass(frozen=True, kw_only=True)
class AddressedBatch:
    """Pixels (B, S, S, 3), tokens of addresses and of captions (B, T), numbers of both texts, metres, and ids."""

    pixels: torch.Tensor
    addresses: torch.Tensor
    captions: torch.Tensor
    address_numbers: torch.Tensor
    caption_numbers: torch.Tensor
    xy: torch.Tensor
    ids: list[str]


class AddressTask:
    """Both towers of a checkpoint, and the three losses."""

    best = "ssa_1"

    def __init__(
        self,
        config: AddressConfig,
        checkpoint: ClipCheckpoint,
        validation: dict[str, np.ndarray],
        candidates: list[str],
        center: np.ndarray,
    ) -> None:
        self._config, self._checkpoint, self._validation = config, checkpoint, validation
        self._candidates, self._center = candidates, center
        self.model: nn.Module = AddressTowers(checkpoint.config, checkpoint.state)
        self._num_features = int(checkpoint.config["embed_dim"])
        self._length = int(checkpoint.config["text_cfg"].get("context_length", 77))

    def losses(self, model: nn.Module, batch: AddressedBatch) -> dict[str, torch.Tensor]:
        """The contrast with addresses and with captions, what features and places disagree by, and their sum."""
        config = self._config
        parts = [batch.addresses, batch.captions] if config.caption_weight > 0 else [batch.addresses]
        texts, where = torch.unique(torch.cat(parts), dim=0, return_inverse=True)
        images, features, scale = self._features(model, batch.pixels, texts)
        device = images.device
        addresses, *captions = torch.split(features[where.to(device)], len(batch.pixels))
        found = {"address": self._contrast(images, addresses, batch.address_numbers, scale)}
        if captions:
            found["caption"] = self._contrast(images, captions[0], batch.caption_numbers, scale)
        if config.geography_weight > 0:
            xy = batch.xy.to(device)
            found["geography"] = geography_loss(
                images, xy, gathered(images), gathered(xy), config.geography, config.radius_m
            )
        weights = {name: getattr(config, f"{name}_weight") for name in found}
        total = torch.stack([weights[name] * loss for name, loss in found.items() if weights[name] > 0]).sum()
        return {"total": total, "logit_scale": scale} | found

    def _contrast(
        self, images: torch.Tensor, texts: torch.Tensor, numbers: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        numbers = numbers.to(images.device)
        return image_text_contrastive(images, texts, numbers, numbers, scale, self._config.contrast)

    def _features(
        self, model: nn.Module, pixels: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        device = next(model.parameters()).device
        shown = normalized(pixels.to(device), self._checkpoint.image_mean, self._checkpoint.image_std)
        longest = int((tokens != 0).sum(dim=1).max())
        with torch.autocast(device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            images, texts, scale = model(shown, tokens[:, :longest].to(device))
        return images, texts, scale

    def ids(self, batch: AddressedBatch) -> list[str]:
        """The images' ids."""
        return batch.ids

    def batch_of(self, rows: dict[str, np.ndarray]) -> AddressedBatch:
        """Rows of a table as a batch; an image without a caption has its address for one."""
        config, library = self._config, self._checkpoint.preprocessing
        addresses = rows["address"].tolist()
        captions = rows["caption"].tolist()
        behind = ["" if config.captions == "alone" and caption else address
                  for caption, address in zip(captions, addresses, strict=True)]  # fmt: skip
        latlon = np.stack([rows["latitude"], rows["longitude"]], axis=1)
        own = np.asarray(rows["row"], np.int64)[:, None] + 1
        said = [caption + " " + address for caption, address in zip(captions, behind, strict=True)]
        same = config.positives == "same"
        return AddressedBatch(
            pixels=torch.from_numpy(np.array(rows["pixels"])),
            addresses=torch.from_numpy(joined_tokens([""] * len(addresses), addresses, self._length, library)),
            captions=torch.from_numpy(joined_tokens(captions, behind, self._length, library)),
            address_numbers=torch.from_numpy(_numbers(addresses) if same else own),
            caption_numbers=torch.from_numpy(_numbers(said) if same else own),
            xy=torch.from_numpy(local_xy(latlon, self._center)),
            ids=rows["image_id"].tolist(),
        )

    def validate(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Whether an image's address is the first, or among the first five, of all the table's addresses."""
        images, texts = self.embedded(model, self._validation["pixels"])
        order = np.argsort(-(images @ texts.T), axis=1, kind="stable")[:, :5]
        true = self._validation["address"]
        right = np.array(self._candidates, dtype=object)[order] == true[:, None]
        return {
            "ssa_1": right[:, 0].astype(np.float64),
            "ssa_5": right.any(axis=1).astype(np.float64),
            "place": np.array([number_of(text) for text in true], np.int64),
        }

    @torch.inference_mode()
    def embedded(self, model: nn.Module, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features of images, and of the candidates' texts."""
        library, size, model = self._checkpoint.preprocessing, TEXTS_AT_ONCE, model.eval()
        images, texts = [np.empty((0, self._num_features), np.float32)], []
        for start in range(0, len(self._candidates), size):
            some = self._candidates[start : start + size]
            tokens = torch.from_numpy(joined_tokens([""] * len(some), some, self._length, library))
            texts.append(self._features(model, self._blank(), tokens)[1].cpu().numpy())
        shown = torch.from_numpy(pixels)
        for start in range(0, len(shown), size):  # the towers go together, so a text goes with the images
            images.append(self._features(model, shown[start : start + size], tokens[:1])[0].cpu().numpy())
        return np.concatenate(images), np.concatenate(texts)

    def _blank(self) -> torch.Tensor:
        side = self._checkpoint.config["vision_cfg"]["image_size"]
        return torch.zeros((1, side, side, 3), dtype=torch.uint8)


def _numbers(texts: Sequence[str]) -> np.ndarray:
    return np.array([number_of(text) for text in texts], np.int64)[:, None]


class AddressedStream:
    """A table's batches with their texts."""

    def __init__(self, task: AddressTask, stream: TableStream) -> None:
        self._task, self._stream = task, stream

    def __iter__(self) -> Any:
        for rows in self._stream:
            if missing := rows["image_id"][rows["address"] == ""].tolist():
                raise InputError(
                    f"{len(missing)} images of a batch have no address, such as {missing[0]!r}; build the table with "
                    "--addresses, which leaves those out"
                )
            yield self._task.batch_of(rows)

    def state(self) -> dict[str, Any]:
        """As the table's stream."""
        return self._stream.state()


@dataclass(frozen=True, kw_only=True)
class AddressWork:
    """The training of an ``AddressTask`` on a table."""

    config: AddressConfig
    table: str

    def with_steps(self, num_rows: int) -> "AddressWork":
        """The same, with as many steps as its epochs of so many rows have."""
        return dataclasses.replace(self, config=with_steps(self.config, num_rows))

    def reading(self) -> Reading:
        """What is read of the table; ``InputError`` where it can't be."""
        return Reading(
            table=open_table(self.table, columns=(*COLUMNS, "bytes", "uri")),
            columns=COLUMNS,
            seed=self.config.seed,
            encoder=self.encoder(),
        )

    def encoder(self) -> EncoderSpec:
        """The checkpoint's image tower, as bundles describe it."""
        return encoder_spec(self.read())

    def read(self) -> ClipCheckpoint:
        """The checkpoint that is trained on from."""
        return read_checkpoint(fetch_checkpoint(self.config.checkpoint).folder)

    def open(self, folder: RunFolder, states: Sequence[dict[str, Any]]) -> tuple[AddressTask, Stream]:
        """The task, and this worker's batches."""
        reading = self.reading()
        assert reading.encoder is not None
        rows = validation_rows(self.table, (*COLUMNS, "place"), self.config.num_validation, reading.encoder)
        known = read_rows(reading.table, ("address", "latitude", "longitude"), PLACES_READ)
        addresses = {text for text in known["address"].to_pylist() if text} | set(rows["address"].tolist())
        center = spherical_mean(np.stack([known[name].to_numpy() for name in ("latitude", "longitude")], axis=1))
        task = AddressTask(self.config, self.read(), rows, sorted(addresses), center)
        shard = ray.train.get_dataset_shard("train")
        size = batch_sizes(self.config.batch_size, self.config.accumulation)
        return task, AddressedStream(task, TableStream(reading, size, self.config.shuffled_rows, states, shard))
