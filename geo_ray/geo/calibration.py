"""From a spread in km to the radius that holds the truth with a stated probability."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True, kw_only=True)
class RadiusCalibration:
    """A step function: in the bin of an answer's spread, half and nine tenths of the validation errors were smaller.

    ``edges`` are the B - 1 inner borders of the bins, in km, ascending.
    """

    edges: tuple[float, ...]
    radius_km_50: tuple[float, ...]
    radius_km_90: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.edges) + 1 == len(self.radius_km_50) == len(self.radius_km_90):
            raise ValueError(
                f"calibration: {len(self.edges)} edges need {len(self.edges) + 1} radii, not "
                f"{len(self.radius_km_50)} and {len(self.radius_km_90)}"
            )
        if list(self.edges) != sorted(self.edges):
            raise ValueError(f"calibration: edges={self.edges} must ascend")

    def radii_km(self, spread_km: Float[np.ndarray, "n"]) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
        """The radii that hold the truth with probability 0.5 and 0.9."""
        bins = np.searchsorted(self.edges, spread_km, side="right")
        return np.asarray(self.radius_km_50)[bins], np.asarray(self.radius_km_90)[bins]


UNKNOWN_RADIUS = RadiusCalibration(edges=(), radius_km_50=(float("nan"),), radius_km_90=(float("nan"),))
