"""Stages of a few lines, to test graphs without a bundle."""

from dataclasses import dataclass

import numpy as np

from geo_ray.pipeline.columns import Batch, Column
from geo_ray.pipeline.stage import Runtime, Stage


@dataclass(frozen=True, kw_only=True)
class Length:
    """How many bytes; none is the problem ``empty``."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("bytes",)

    @property
    def writes(self) -> tuple[Column, ...]:
        return (Column(name="length", dtype="int64", fill=-1), Column(name="note", fill=()))

    def build(self, runtime: Runtime) -> Stage:
        def run(batch: Batch) -> Batch:
            length = np.array([len(content or b"") for content in batch["bytes"]])
            note = np.empty(len(length), dtype=object)
            note[:] = [["long"] if n > 2 else [] for n in length]
            problem = np.where(length == 0, "empty", "").astype(object)
            return {"length": length, "note": note, "problem": problem}

        return run


@dataclass(frozen=True, kw_only=True)
class Twice:
    """The length and its double, (2,)."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("length",)

    @property
    def writes(self) -> tuple[Column, ...]:
        return (Column(name="pair", dtype="float32", shape=(2,), fill=np.nan),)

    def build(self, runtime: Runtime) -> Stage:
        return lambda batch: {"pair": np.stack([batch["length"], 2 * batch["length"]], axis=1).astype(np.float32)}
