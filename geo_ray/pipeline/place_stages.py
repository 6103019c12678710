"""The stages that find a place by image features alone: like a caption's, or like a known place's."""

from dataclasses import dataclass

import numpy as np

from geo_ray.atlas.labels import load_labels
from geo_ray.index.gallery import read_gallery
from geo_ray.index.probe import Probe
from geo_ray.index.refine import feature_distance
from geo_ray.models.bundle import GALLERY, LABEL_FEATURES, LABELS, open_bundle
from geo_ray.pipeline.columns import Batch, Column, located
from geo_ray.pipeline.stage import Runtime, Stage


@dataclass(frozen=True, kw_only=True)
class FindPlace:
    """Image features to a place and its alternatives; what is below says how."""

    bundle: str
    num_candidates: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The features."""
        return ("image_features",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The place and the alternatives."""
        return located(self.num_candidates)


@dataclass(frozen=True, kw_only=True)
class ProbeLabels(FindPlace):
    """The labels that an image is most like, step by step: country, then city (StreetCLIP, section 3.3)."""

    def build(self, runtime: Runtime) -> Stage:
        """Loads the labels and their features."""
        bundle = open_bundle(self.bundle)
        labels = load_labels(bundle.path(LABELS))
        features = np.load(bundle.path(LABEL_FEATURES), allow_pickle=False)
        probe = Probe(labels.parents, labels.latlon, features, bundle.probing, runtime.search_device)

        def run(batch: Batch) -> Batch:
            found = probe(batch["image_features"])
            near = feature_distance(batch["image_features"], features[found.cells[:, 0]])
            return vars(found) | {"feature_distance": near, "spread_km": found.spread_km}

        return run


@dataclass(frozen=True, kw_only=True)
class SearchGallery(FindPlace):
    """The places of the gallery that an image is most like (GeoCLIP, arXiv 2309.16020, section 3.3).

    There is no coarser step before it, so ``top_latlon`` is NaN.
    """

    def build(self, runtime: Runtime) -> Stage:
        """Opens the gallery."""
        bundle = open_bundle(self.bundle)
        gallery = read_gallery(bundle.path(GALLERY), runtime.search_device)

        def run(batch: Batch) -> Batch:
            found = gallery.search(batch["image_features"], bundle.gallery_search)
            rows = found.cells[np.arange(len(found.cells)), found.winner]
            return vars(found) | {
                "feature_distance": feature_distance(batch["image_features"], gallery.features[rows]),
                "spread_km": found.spread_km,
                "top_latlon": np.full_like(found.latlon, np.nan),
            }

        return run
