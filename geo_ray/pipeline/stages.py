"""The stages that every kind of bundle has: decode, encode, describe. Shapes: V views, S image side, D features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from geo_ray.geo.calibration import UNCERTAIN
from geo_ray.models.bundle import open_bundle
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.image_hash import perceptual_hash
from geo_ray.models.naming import open_naming
from geo_ray.models.preprocess import ImageProblem, decode_image
from geo_ray.pipeline.columns import ANSWER, Batch, Column, located, view_columns
from geo_ray.pipeline.stage import Runtime, Stage
from geo_ray.pipeline.stating import stating


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Bytes to uint8 pixels of one size, ``num_views`` images a row; a row with a bad view has a problem."""

    image_size: int
    max_pixels: int
    preprocessing: str = "fast"
    num_views: int = 1

    @property
    def reads(self) -> tuple[str, ...]:
        """The bytes of each view."""
        return view_columns(self.num_views)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The pixels, (V, S, S, 3), and how many of the views the row has."""
        shape = (self.num_views, self.image_size, self.image_size, 3)
        return (
            Column(name="pixels", dtype="uint8", shape=shape, fill=0),
            Column(name="view_count", dtype="int64", fill=0),
        )

    def build(self, runtime: Runtime) -> Stage:
        """Nothing is loaded but for a ``decode_device``, which decodes what it can where preprocessing is fast."""
        if runtime.decode_device is None or self.preprocessing != "fast":
            return partial(self._run, lambda contents: [None] * len(contents))
        from geo_ray.models.device_decode import DeviceDecoder  # which needs torch

        return partial(self._run, DeviceDecoder(self.image_size, self.max_pixels, runtime.decode_device))

    def _run(self, on_device: Callable[[list[bytes]], list[Any]], batch: Batch) -> Batch:
        rows = len(batch["bytes"])
        answer = {column.name: column.blank(rows) for column in self.writes}
        answer["problem"] = np.full(rows, "", dtype=object)
        columns = (batch[name] for name in self.reads)
        given = [[view for view in views if view is not None] for views in zip(*columns, strict=True)]
        decoded = iter(on_device([content for views in given for content in views]))
        for row, views in enumerate(given):
            answer["view_count"][row] = len(views)
            answer["problem"][row] = "" if views else "empty"
            for number, (content, pixels) in enumerate(zip(views, decoded, strict=False)):
                try:
                    answer["pixels"][row, number] = self._decoded(content) if pixels is None else pixels
                except ImageProblem as problem:
                    answer["problem"][row] = answer["problem"][row] or problem.code
        return answer

    def _decoded(self, content: bytes) -> np.ndarray:
        return decode_image(content, self.image_size, self.max_pixels, self.preprocessing)


@dataclass(frozen=True, kw_only=True)
class Hash:
    """Pixels to a perceptual hash, of an item's first view."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The pixels."""
        return ("pixels",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The hash, 64 bits."""
        return (Column(name="phash", dtype="uint64", fill=0),)

    def build(self, runtime: Runtime) -> Stage:
        """Nothing is loaded."""
        return lambda batch: {"phash": np.array([perceptual_hash(views[0]) for views in batch["pixels"]], np.uint64)}


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Pixels to image features by the bundle's tower; those of several views are averaged (PIGEON, section 4.1).

    ``dtype`` is what the tower computes in: float32, bfloat16 or float16, or ``auto``, what the device is fast in.
    ``micro_batch`` is how many images it sees at once; without it, as many as the bundle says on a CPU, and on a GPU
    as many as it is fast with.
    """

    bundle: str
    num_features: int
    dtype: str = "auto"
    micro_batch: int | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The pixels and how many views are filled."""
        return ("pixels", "view_count")

    @property
    def writes(self) -> tuple[Column, ...]:
        """The features, (D,)."""
        return (Column(name="image_features", dtype="float32", shape=(self.num_features,), fill=0.0),)

    def build(self, runtime: Runtime) -> Stage:
        """Loads the tower onto the runtime's device."""
        import torch  # 2 s to import; who reads images or finds places does without

        from geo_ray.models import clip

        torch.set_num_threads(runtime.num_threads)
        bundle = open_bundle(self.bundle)
        encoder = clip.open_encoder(bundle, runtime.device, self.dtype, self.micro_batch, runtime.say)
        if self.micro_batch is None and runtime.device != "cpu":
            encoder.micro_batch = runtime.micro_batch_by(lambda: clip.fastest_micro_batch(encoder))

        def run(batch: Batch) -> Batch:
            pixels, counts = batch["pixels"], batch["view_count"]
            filled = np.arange(pixels.shape[1]) < counts[:, None]
            views = pixels[:, 0] if pixels.shape[1] == 1 else pixels[filled]
            features = view_mean(encoder(views), counts, bundle.encoder)
            finite = np.isfinite(features).all(axis=1)
            return {"image_features": features, "problem": np.where(finite, "", "no_answer").astype(object)}

        return run


def view_mean(features: np.ndarray, counts: np.ndarray, spec: EncoderSpec) -> np.ndarray:
    """The mean of each row's views, of length one again where the encoder's features are; one view stays as it is."""
    if (counts == 1).all():
        return features
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    mean = np.add.reduceat(features, starts, axis=0) / counts[:, None].astype(np.float32)
    length = np.linalg.norm(mean, axis=1, keepdims=True) if spec.normalize else 1.0
    return np.where((counts == 1)[:, None], features[starts], mean / length).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Describe:
    """What was found, as the columns that every kind of bundle answers.

    Answers with a smaller ``probability`` or a larger or unknown ``radius_km_90`` than asked for are uncertain. What is
    stated holds for the index that it was fitted with: with another one the bundle is not ``calibrated``.
    """

    bundle: str
    num_reported: int
    min_probability: float | None = None
    max_radius_km: float | None = None
    calibrated: bool = True

    @property
    def reads(self) -> tuple[str, ...]:
        """What the stage before found."""
        return tuple(column.name for column in located(1))

    @property
    def writes(self) -> tuple[Column, ...]:
        """The answer's columns."""
        return ANSWER

    def build(self, runtime: Runtime) -> Stage:
        """Loads the ids, the names and the calibration."""
        bundle = open_bundle(self.bundle)
        naming = open_naming(bundle)
        state = stating(bundle.calibration() if self.calibrated else None, naming)

        def run(batch: Batch) -> Batch:
            rows = np.arange(len(batch["winner"]))
            answered = batch["cells"][rows, batch["winner"]]
            places = naming.places_of(answered, batch["latlon"])
            stated = state(batch, places)
            return {
                "latitude": batch["latlon"][:, 0],
                "longitude": batch["latlon"][:, 1],
                "cell_id": naming.ids[answered],
                "probability": stated.candidates[rows, batch["winner"]],
                "region_probability": stated.region,
                "country_probability": stated.country,
                "radius_km_50": stated.radius_km_50,
                "radius_km_90": stated.radius_km_90,
                "unlike": stated.unlike,
                "country": places.country,
                "region": places.region,
                "place": places.city,
                "candidates": self._candidates(batch, naming.ids, stated.candidates),
                "cell_latitude": batch["top_latlon"][:, 0],
                "cell_longitude": batch["top_latlon"][:, 1],
                "bundle_fingerprint": np.full(len(rows), bundle.fingerprint, dtype=object),
                "problem": self._problems(stated.candidates[rows, batch["winner"]], stated.radius_km_90),
            }

        return run

    def _problems(self, probability: np.ndarray, radius_km_90: np.ndarray) -> np.ndarray:
        certain = np.full(len(probability), True)
        if self.min_probability is not None:
            certain &= probability >= self.min_probability  # False for NaN
        if self.max_radius_km is not None:
            certain &= radius_km_90 <= self.max_radius_km
        return np.where(certain, "", UNCERTAIN).astype(object)

    def _candidates(self, batch: Batch, ids: np.ndarray, stated: np.ndarray) -> np.ndarray:
        """A list of the best candidates for each row, best first; probabilities are None where none is stated."""
        order = np.argsort(-batch["candidate_probability"], axis=1, kind="stable")[:, : self.num_reported]
        names = ids[np.take_along_axis(batch["cells"], order, axis=1)]
        shares = np.take_along_axis(stated, order, axis=1).astype(object)
        shares[np.isnan(stated[:, 0])] = None
        points = np.take_along_axis(batch["candidate_latlon"], order[..., None], axis=1)
        column = np.empty(len(order), dtype=object)
        for row in range(len(order)):
            column[row] = [
                {"cell_id": cell, "probability": p, "latitude": lat, "longitude": lon}
                for cell, p, (lat, lon) in zip(names[row], shares[row].tolist(), points[row].tolist(), strict=True)
            ]
        return column
