"""The stage of a zero-shot bundle: image features are compared with those of captions."""

from dataclasses import dataclass

import numpy as np

from geo_ray.atlas.labels import load_labels
from geo_ray.index.probe import Probe
from geo_ray.models.bundle import LABEL_FEATURES, LABELS, open_bundle
from geo_ray.pipeline.columns import Batch, Column, located
from geo_ray.pipeline.stage import Runtime, Stage


@dataclass(frozen=True, kw_only=True)
class ProbeLabels:
    """Image features to the labels they are most like, step by step: country, then city (StreetCLIP, section 3.3)."""

    bundle: str
    num_candidates: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The features."""
        return ("image_features",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The label, its point and the alternatives."""
        return located(self.num_candidates)

    def build(self, runtime: Runtime) -> Stage:
        """Loads the labels and their features."""
        bundle = open_bundle(self.bundle)
        labels = load_labels(bundle.path(LABELS))
        features = np.load(bundle.path(LABEL_FEATURES), allow_pickle=False)
        probe = Probe(labels.parents, labels.latlon, features, bundle.probing)

        def run(batch: Batch) -> Batch:
            found = probe(batch["image_features"])
            return vars(found) | {"spread_km": found.spread_km}

        return run
