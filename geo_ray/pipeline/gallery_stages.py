"""The stage of a bundle with a gallery: image features are compared with those of places."""

from dataclasses import dataclass

import numpy as np

from geo_ray.index.gallery import read_gallery
from geo_ray.models.bundle import GALLERY, open_bundle
from geo_ray.pipeline.columns import Batch, Column, located
from geo_ray.pipeline.stage import Runtime, Stage


@dataclass(frozen=True, kw_only=True)
class SearchGallery:
    """Image features to the places of the gallery they are most like (GeoCLIP, arXiv 2309.16020, section 3.3)."""

    bundle: str
    num_candidates: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The features."""
        return ("image_features",)

    @property
    def writes(self) -> tuple[Column, ...]:
        """The place and the alternatives; there is no coarser step before it."""
        return located(self.num_candidates)

    def build(self, runtime: Runtime) -> Stage:
        """Opens the gallery."""
        bundle = open_bundle(self.bundle)
        gallery = read_gallery(bundle.path(GALLERY))

        def run(batch: Batch) -> Batch:
            found = gallery.search(batch["image_features"], bundle.gallery_search)
            return vars(found) | {"spread_km": found.spread_km, "top_latlon": np.full_like(found.latlon, np.nan)}

        return run
