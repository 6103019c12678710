"""What is known of a place besides where it is, and how a model learns it beside the geocell (PIGEON, section 3.3).

Shapes: n places, R regressions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import nn
from torch.nn import functional as F

from geo_ray.atlas.climate import MISSING, ZONES
from geo_ray.errors import InputError

MONTHS = 12
# What is added before the logarithm of each regression's variable (PIGEON's for Street View and, elevation alone, for
# photos of anything); temperature is not logged.
OFFSETS = {"elevation_m": 408.0, "population": 1.0, "temperature_range": 1.0, "precipitation": 1.0,
           "precipitation_range": 1.0}  # fmt: skip
PHOTO_OFFSETS = OFFSETS | {"elevation_m": 416.0}
REGRESSIONS = ("elevation_m", "population", "temperature", "temperature_range", "precipitation", "precipitation_range")


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """A variable as a model learns it: log(x + offset), or x where there is no offset, less its mean, by its spread."""

    offset: float | None
    mean: float
    spread: float

    @classmethod
    def fit(cls, values: Float64[np.ndarray, "n"], offset: float | None = None, name: str = "variable") -> "Scaler":
        """By the values that are known; ``InputError`` where they are too few, or the logarithm has no value."""
        logged = _logged(values[~np.isnan(values)], offset, name)
        if len(logged) < 2 or logged.std() == 0:
            raise InputError(f"{name} has {len(logged)} known values that differ too little to learn; leave it out")
        return cls(offset=offset, mean=float(logged.mean()), spread=float(logged.std()))

    def scaled(self, values: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """The values as a model learns them; what is missing stays NaN."""
        return (_logged(values, self.offset, "a value") - self.mean) / self.spread

    def inverted(self, scaled: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """What a model's numbers mean."""
        values = scaled * self.spread + self.mean
        return values if self.offset is None else np.exp(values) - self.offset


def _logged(values: Float64[np.ndarray, "n"], offset: float | None, name: str) -> Float64[np.ndarray, "n"]:
    if offset is None:
        return values
    if (values + offset <= 0).any():
        raise InputError(f"{name} of {np.nanmin(values):g} is not above {-offset:g}, and has no logarithm; correct it")
    return np.log(values + offset)


class CovariateHeads(nn.Module):
    """Linear heads for climate zone, month and some regressions on image features.

    The loss is weighted as PIGEON's: 2 for the climate, 1 for the month, 8 for the mean squared error. Each is the mean
    over what is known of the batch, and 0 where nothing is.
    """

    CLIMATE_WEIGHT, MONTH_WEIGHT, REGRESSION_WEIGHT = 2.0, 1.0, 8.0

    def __init__(self, num_features: int, num_regressions: int = len(REGRESSIONS), with_month: bool = True) -> None:
        super().__init__()
        self.climate = nn.Linear(num_features, len(ZONES))
        self.month = nn.Linear(num_features, MONTHS) if with_month else None
        self.regressions = nn.Linear(num_features, num_regressions)

    def forward(self, features: Float[torch.Tensor, "n D"]) -> dict[str, torch.Tensor]:
        """Logits of climate zones and months, and scaled regressions, by name."""
        found = {"climate": self.climate(features), "regressions": self.regressions(features)}
        return found if self.month is None else found | {"month": self.month(features)}

    @classmethod
    def losses(
        cls,
        outputs: dict[str, torch.Tensor],
        climate: Int[torch.Tensor, "n"],
        month: Int[torch.Tensor, "n"],
        regressions: Float[torch.Tensor, "n R"],
    ) -> dict[str, Float[torch.Tensor, ""]]:
        """``climate``, ``month`` and ``regressions`` of what ``forward`` gives, each weighted.

        ``climate`` are numbers of zones and ``month`` numbers from 0, ``MISSING`` where unknown; regressions are
        scaled, NaN where unknown.
        """
        found = {"climate": cls.CLIMATE_WEIGHT * _known_entropy(outputs["climate"], climate)}
        if "month" in outputs:
            found["month"] = cls.MONTH_WEIGHT * _known_entropy(outputs["month"], month)
        known = ~torch.isnan(regressions)
        off = torch.where(known, outputs["regressions"].float() - torch.nan_to_num(regressions), 0.0)
        found["regressions"] = cls.REGRESSION_WEIGHT * off.square().sum() / known.sum().clamp(min=1)
        return found


def _known_entropy(logits: Float[torch.Tensor, "n k"], classes: Int[torch.Tensor, "n"]) -> Float[torch.Tensor, ""]:
    """The mean cross-entropy over what is not ``MISSING``; 0, with a gradient of 0, where nothing is known."""
    total = F.cross_entropy(logits.float(), classes.long(), ignore_index=MISSING, reduction="sum")
    return total / (classes != MISSING).sum().clamp(min=1)
