"""Photos that say themselves where they were taken: they are left out, or their EXIF is compared with the answer."""

from dataclasses import dataclass

import numpy as np

from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.exif import gps_position, looks_located
from geo_ray.pipeline.columns import EXIF_DISTANCE, EXIF_POINT, HAS_LOCATION, Batch, Column
from geo_ray.pipeline.stage import Runtime, Stage

EXIF_CHOICES = ("ignore", "skip", "compare")


@dataclass(frozen=True, kw_only=True)
class ReadExif:
    """The bytes of the first view to the point that its EXIF gives.

    With ``skip``, a row has a problem where anything in the photo looks like a position.
    """

    skip: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The first view's bytes."""
        return ("bytes",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """Latitude and longitude, NaN where there are none."""
        return EXIF_POINT

    def build(self, runtime: Runtime) -> Stage:
        """A stage that needs nothing loaded."""
        return self._run

    def _run(self, batch: Batch) -> Batch:
        positions = [gps_position(content) or (np.nan, np.nan) for content in batch["bytes"]]
        latlon = np.array(positions, np.float64).reshape(-1, 2)
        answer = {column.name: latlon[:, axis] for axis, column in enumerate(EXIF_POINT)}
        if self.skip:
            located = [looks_located(content) for content in batch["bytes"]]
            answer["problem"] = np.where(located, HAS_LOCATION, "").astype(object)
        return answer


@dataclass(frozen=True, kw_only=True)
class CompareExif:
    """How far the answer lies from the point that the photo's EXIF gives."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Both points."""
        return ("latitude", "longitude", *(column.name for column in EXIF_POINT))

    @property
    def writes(self) -> tuple[Column, ...]:
        """The great-circle distance in km, NaN where EXIF gives no point."""
        return (EXIF_DISTANCE,)

    def build(self, runtime: Runtime) -> Stage:
        """A stage that needs nothing loaded."""
        return self._run

    def _run(self, batch: Batch) -> Batch:
        answer, exif = (
            np.stack([batch[f"{name}latitude"], batch[f"{name}longitude"]], axis=1) for name in ("", "exif_")
        )
        return {EXIF_DISTANCE.name: great_circle_km(answer, exif)}
