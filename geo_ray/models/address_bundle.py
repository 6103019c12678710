"""Bundles of addresses: a CLIP, candidate addresses, and their features (AddressCLIP, arXiv 2407.08156, 3.4)."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from geo_ray.atlas.addresses import Addresses, write_addresses
from geo_ray.index.gallery import GallerySearch, write_gallery
from geo_ray.models.bundle import ADDRESSES, GALLERY, TEXT, WEIGHTS, Bundle
from geo_ray.models.bundle_writing import Words, filling, seal, write_tower
from geo_ray.models.checkpoints import ClipCheckpoint
from geo_ray.models.published import encoder_spec, image_tower
from geo_ray.models.texts import TextEncoder, read_text_tower, write_text_tower

MAX_LOGIT_SCALE = 100.0


def write_address_bundle(
    folder: Path, checkpoint: ClipCheckpoint, addresses: Addresses, words: Words, num_candidates: int = 20
) -> None:
    """Write a bundle that finds addresses: both towers of a checkpoint, and addresses with their texts' features.

    Raises ``InputError`` that quotes an address which is longer than the text tower reads, and ``OutputError``.
    """
    features = TextEncoder(checkpoint)(addresses.texts.tolist())
    few = min(num_candidates, len(addresses))
    search = GallerySearch(logit_scale=min(checkpoint.logit_scale, MAX_LOGIT_SCALE), num_candidates=few)
    with filling(folder) as partial:
        write_tower(partial, image_tower(checkpoint))
        write_text_tower(partial / TEXT, checkpoint)
        _write_candidates(partial, addresses, features)
        seal(partial, "address", encoder_spec(checkpoint), search, words)


def _write_candidates(folder: Path, addresses: Addresses, features: Float32[np.ndarray, "a D"]) -> None:
    write_addresses(addresses, folder / ADDRESSES)
    write_gallery(folder / GALLERY, features, addresses.latlon)


def with_candidates(bundle: Bundle, addresses: Addresses, output: Path, say: Callable[[str], None] = print) -> None:
    """Write a copy of a bundle with other candidates, embedded by its text tower; what was calibrated isn't theirs."""
    say(f"embedding {len(addresses):,} addresses")
    features = query_features(bundle, addresses.texts.tolist())
    words = Words(
        description=bundle.description, licence=bundle.licence, attribution=bundle.attribution,
        provenance=bundle.provenance | {"candidates_of": bundle.fingerprint},
    )  # fmt: skip
    with filling(output) as partial:
        shutil.copyfile(bundle.path(WEIGHTS), partial / WEIGHTS)
        shutil.copytree(bundle.path(TEXT), partial / TEXT)
        _write_candidates(partial, addresses, features)
        few = min(bundle.gallery_search.num_candidates, len(addresses))
        search = dataclasses.replace(bundle.gallery_search, num_candidates=few)
        seal(partial, "address", bundle.encoder, search, words)


def query_features(bundle: Bundle, texts: list[str]) -> Float32[np.ndarray, "n D"]:
    """Features of any texts by the text tower of a bundle of addresses."""
    return TextEncoder(read_text_tower(bundle.path(TEXT)))(texts)
