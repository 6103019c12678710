"""Which candidate of a run's bundle is right for a place."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from geo_ray.errors import GeoRayError
from geo_ray.evaluation.tables import Predictions
from geo_ray.models.bundle import MANIFEST, shipped_bundles
from geo_ray.models.naming import read_naming


def true_cells(predictions: Predictions, latlon: Float64[np.ndarray, "n 2"]) -> Shaped[np.ndarray, "n"] | None:
    """The id of the cell, or of the nearest label or place of a gallery, that each point (degrees) is in.

    None where the run's bundle is not in reach on this machine, no longer the one that answered, or damaged.
    """
    bundle = predictions.manifest.get("bundle")
    if not isinstance(bundle, dict) or not predictions.has("cell_id"):
        return None
    folder = local_folder(str(bundle.get("ref")))
    if fingerprint_of(folder) != bundle.get("fingerprint"):
        return None
    manifest = json.loads((folder / MANIFEST).read_bytes())
    try:
        naming = read_naming(folder, manifest["kind"], manifest.get("filed_by") or "center")
    except (GeoRayError, OSError, ValueError, KeyError):
        return None
    return np.asarray(naming.ids[naming.right_candidates(latlon)], object)


def local_folder(ref: str) -> Path:
    """Where a bundle lies if it is on this machine."""
    return shipped_bundles().get(ref, Path(ref))


def fingerprint_of(folder: Path) -> Any:
    """A bundle's fingerprint by its manifest alone, as other files may be many gigabytes; empty where it has none."""
    try:
        return json.loads((folder / MANIFEST).read_bytes())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
