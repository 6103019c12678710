"""Writing bundles: zero-shot ones, those with a gallery, and copies of any."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from safetensors.torch import save_file

from geo_ray.atlas.labels import Labels, write_labels
from geo_ray.errors import OutputError
from geo_ray.index.gallery import GallerySearch, write_gallery
from geo_ray.index.probe import Probing
from geo_ray.models.bundle import (
    GALLERY,
    LABEL_FEATURES,
    LABELS,
    WEIGHTS,
    Bundle,
    Parameters,
    write_manifest,
)
from geo_ray.models.clip import TOWER
from geo_ray.models.encoder_spec import EncoderSpec


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a bundle says of itself."""

    description: str
    licence: str
    attribution: str
    provenance: dict[str, Any]


def write_zero_shot(
    folder: Path,
    *,
    tower: dict[str, torch.Tensor],
    encoder: EncoderSpec,
    labels: Labels,
    label_features: Float32[np.ndarray, "L D"],
    probing: Probing,
    words: Words,
) -> None:
    """Write a zero-shot bundle: an image tower, labels, and the features of their captions.

    Raises ``OutputError`` where the folder holds something, and ``ValueError`` where the features don't fit.
    """
    expected = (len(labels.ids), encoder.num_features)
    if label_features.shape != expected or not np.isfinite(label_features).all():
        raise ValueError(f"label features of shape {label_features.shape} must be finite and of shape {expected}")
    with _filling(folder) as partial:
        _write_tower(partial, tower)
        write_labels(labels, partial / LABELS)
        np.save(partial / LABEL_FEATURES, label_features)
        _seal(partial, "zero-shot", encoder, probing, words)


def write_gallery_bundle(
    folder: Path,
    *,
    tower: dict[str, torch.Tensor],
    encoder: EncoderSpec,
    features: Float32[np.ndarray, "G D"],
    latlon: Float64[np.ndarray, "G 2"],
    search: GallerySearch,
    words: Words,
) -> None:
    """Write a bundle with a gallery: an image tower, and places with their features. Raises ``OutputError``."""
    with _filling(folder) as partial:
        _write_tower(partial, tower)
        write_gallery(partial / GALLERY, features, latlon)
        _seal(partial, "gallery", encoder, search, words)


def copy_bundle(
    bundle: Bundle, folder: Path, parameters: Parameters, changed: dict[str, str], provenance: dict[str, Any]
) -> None:
    """Write a copy of a bundle to a new folder, with these parameters and files, and more said of its origin."""
    words = Words(
        description=bundle.description,
        licence=bundle.licence,
        attribution=bundle.attribution,
        provenance=bundle.provenance | provenance,
    )
    with _filling(folder) as partial:
        for name in bundle.files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path(name), partial / name)
        for name, text in changed.items():
            (partial / name).write_text(text)
        _seal(partial, bundle.kind, bundle.encoder, parameters, words)


@contextmanager
def _filling(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name once it is complete."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} holds something; name a new folder for the bundle with --output")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} can't be written ({error}); name another folder with --output") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_tower(folder: Path, tower: dict[str, torch.Tensor]) -> None:
    save_file({TOWER + name: tensor.contiguous() for name, tensor in tower.items()}, folder / WEIGHTS)


def _seal(folder: Path, kind: str, encoder: EncoderSpec, parameters: Parameters, words: Words) -> None:
    write_manifest(folder, kind=kind, encoder=encoder, parameters=parameters, **vars(words))
