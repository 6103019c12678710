"""What a small CLIP knows of countries that it was never trained on: bundles to ask it with, and shares of answers."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from safetensors.torch import load_file

from geo_ray.atlas.labels import ROOT, Labels, load_labels
from geo_ray.index.probe import Probing
from geo_ray.models.bundle import LABEL_FEATURES, LABELS, WEIGHTS, Bundle
from geo_ray.models.bundle_writing import Words, write_zero_shot
from geo_ray.models.clip import TOWER


def countries_alone(bundle: Bundle, folder: Path, among: tuple[str, ...] | None = None, num_reported: int = 5) -> None:
    """Write the bundle with its countries as the only labels, all or these ISO codes, and the best ones reported."""
    labels = load_labels(bundle.path(LABELS))
    kept = labels.parents == ROOT
    if among is not None:
        kept &= np.isin(labels.countries, among)
    features = np.load(bundle.path(LABEL_FEATURES), allow_pickle=False)
    tower = {name.removeprefix(TOWER): tensor for name, tensor in load_file(bundle.path(WEIGHTS)).items()}
    scale = bundle.probing.logit_scale
    write_zero_shot(
        folder,
        tower=tower,
        encoder=bundle.encoder,
        labels=Labels(**{name: column[kept] for name, column in vars(labels).items()}),
        label_features=features[kept],
        probing=Probing(method="beam", beam=num_reported, logit_scale=scale, num_candidates=num_reported),
        words=Words(
            description=bundle.description,
            licence=bundle.licence,
            attribution=bundle.attribution,
            provenance=bundle.provenance | {"labels_of": bundle.fingerprint},
        ),
    )


def accuracy(right: Bool[np.ndarray, "n"], truth: Shaped[np.ndarray, "n"]) -> dict[str, float]:
    """The share of images that are right, and its mean over the true classes, where each counts alike."""
    shares = accuracy_by_class(right, truth).values()
    return {"images": float(right.mean()), "classes": float(np.mean(list(shares)))}


def accuracy_by_class(right: Bool[np.ndarray, "n"], truth: Shaped[np.ndarray, "n"]) -> dict[str, float]:
    """The share of images of each true class that are right."""
    return {str(name): float(right[truth == name].mean()) for name in sorted(set(truth))}


def shuffled_accuracies(
    answers: Shaped[np.ndarray, "n"], truth: Shaped[np.ndarray, "n"], rng: np.random.Generator, num_shuffles: int = 1000
) -> Float64[np.ndarray, "s"]:
    """The class-balanced accuracy with the true classes' captions shuffled among them, many times over.

    If captions carry nothing over, the figure without a shuffle is one like these.
    """
    names, true_rows = np.unique(truth.astype(str), return_inverse=True)
    shares = np.zeros((len(names), len(names)))  # of a class's images (row) that are answered with each class
    for row, name in enumerate(names):
        shares[:, row] = np.bincount(true_rows, answers == name, len(names)) / np.bincount(true_rows)
    shuffles = np.stack([rng.permutation(len(names)) for _ in range(num_shuffles)])
    return np.asarray(shares[np.arange(len(names)), shuffles].mean(axis=1))
