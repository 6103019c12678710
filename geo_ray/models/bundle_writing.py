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
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import save_file

from geo_ray.atlas.labels import Labels, write_labels
from geo_ray.cells.partition_file import read_partition
from geo_ray.errors import BundleError, OutputError
from geo_ray.index.gallery import GallerySearch, write_gallery
from geo_ray.index.index_folder import check_index
from geo_ray.index.probe import Probing
from geo_ray.index.refine import Refinement
from geo_ray.models.bundle import (
    CALIBRATION,
    CELLS,
    GALLERY,
    HEAD,
    INDEX,
    LABEL_FEATURES,
    LABELS,
    WEIGHTS,
    Bundle,
    Parameters,
    open_bundle,
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
    with filling(folder) as partial:
        write_tower(partial, tower)
        write_labels(labels, partial / LABELS)
        np.save(partial / LABEL_FEATURES, label_features)
        seal(partial, "zero-shot", encoder, probing, words)


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
    with filling(folder) as partial:
        write_tower(partial, tower)
        write_gallery(partial / GALLERY, features, latlon)
        seal(partial, "gallery", encoder, search, words)


def write_encoder(folder: Path, tower: dict[str, torch.Tensor], encoder: EncoderSpec, words: Words) -> Bundle:
    """Write a new folder with an encoder alone, from which features are made; what opens it."""
    with filling(folder) as partial:
        write_tower(partial, tower)
        seal(partial, "cells", encoder, Refinement(), words)
    return open_bundle(str(folder.resolve()))


def write_cells_bundle(
    folder: Path, *, encoder: Bundle, cells: Path, head: Path, index: Path, refinement: Refinement, words: Words
) -> None:
    """Write a bundle of cells from its parts: the tower of a bundle, and files of cells, head and index.

    The head is safetensors with ``weight`` (cells, features) and ``bias`` (cells). Nothing is calibrated yet. Raises
    ``BundleError`` or ``InputError`` where a part is not what the others need, and ``OutputError``.
    """
    partition = read_partition(cells)
    _check_head(head, len(partition), encoder.num_features)
    check_index(
        index,
        num_features=encoder.num_features,
        num_cells=len(partition),
        encoder_fingerprint=encoder.encoder_fingerprint,
        partition_digest=partition.digest,
    )
    with filling(folder) as partial:
        for source, name in ((encoder.path(WEIGHTS), WEIGHTS), (cells, CELLS), (head, HEAD)):
            shutil.copyfile(source, partial / name)
        shutil.copytree(index, partial / INDEX)
        (partial / CALIBRATION).write_text("{}")
        seal(partial, "cells", encoder.encoder, refinement, words)


def _check_head(path: Path, num_cells: int, num_features: int) -> None:
    try:
        head = load_arrays(path)
        shapes = {name: head[name].shape for name in ("weight", "bias")}
    except (OSError, KeyError, SafetensorError) as error:
        raise BundleError(f"{path} is no head ({error}); give safetensors with weight and bias") from error
    expected = {"weight": (num_cells, num_features), "bias": (num_cells,)}
    if shapes != expected:
        raise BundleError(f"head {path} has {shapes}, these cells and this encoder need {expected}; train it for them")
    if not all(np.isfinite(values).all() for values in head.values()):
        raise BundleError(f"head {path} has numbers that are not finite; train it again")


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
    with filling(folder) as partial:
        for name in bundle.files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path(name), partial / name)
        for name, text in changed.items():
            (partial / name).write_text(text)
        seal(partial, bundle.kind, bundle.encoder, parameters, words)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
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


def write_tower(folder: Path, tower: dict[str, torch.Tensor]) -> None:
    """Write an image tower's tensors into a bundle's folder."""
    save_file({TOWER + name: tensor.contiguous() for name, tensor in tower.items()}, folder / WEIGHTS)


def seal(folder: Path, kind: str, encoder: EncoderSpec, parameters: Parameters, words: Words) -> None:
    """Write the manifest of a folder that is complete."""
    write_manifest(folder, kind=kind, encoder=encoder, parameters=parameters, **vars(words))
