"""Bundles from weights that others published: StreetCLIP, CLIP models, GeoCLIP."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from geo_ray import __version__
from geo_ray.atlas.label_files import read_labels
from geo_ray.atlas.label_lists import streetclip_labels, tree_labels
from geo_ray.atlas.labels import Labels
from geo_ray.errors import InputError
from geo_ray.index.gallery import GallerySearch
from geo_ray.index.probe import Probing
from geo_ray.models.bundle_writing import Words, write_gallery_bundle, write_zero_shot
from geo_ray.models.checkpoints import ClipCheckpoint, read_checkpoint
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.geoclip import CLIP_FEATURES, LocationEncoder, embed_locations, read_geoclip
from geo_ray.models.hub import Fetched, fetch_checkpoint
from geo_ray.models.texts import embed_texts

VISUAL = "visual."  # prefix of the image tower in open_clip's names


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is known of published weights: where they are, under which licence, and what they are for."""

    source: str
    licence: str
    description: str
    attribution: str


PUBLISHED = {
    "streetclip": Publication(
        source="geolocal/StreetCLIP",
        licence="CC-BY-NC-4.0 (no commercial use)",
        description="street-level photos, zero-shot by captions: country, then one of its largest cities",
        attribution="Weights: StreetCLIP (Haas et al. 2023, arXiv 2302.00275).",
    ),
    "openclip": Publication(
        source="",
        licence="see the weights' publisher",
        description="photos of any kind, zero-shot by captions: country, then one of its largest cities",
        attribution="Weights: as named in provenance.",
    ),
    "geoclip": Publication(
        source="openai/clip-vit-large-patch14",
        licence="MIT",
        description="photos of any kind, by the nearest of 100,000 photo locations",
        attribution="Weights: GeoCLIP (Vivanco et al. 2023, arXiv 2309.16020) and CLIP (Radford et al. 2021).",
    ),
}
CITIES = " Cities: GeoNames (CC BY 4.0)."


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """Which labels a zero-shot bundle probes: StreetCLIP's two levels, a tree of three, or a file of one's own.

    ``countries`` are all with an ISO 3166 code, or those of StreetCLIP's paper.
    """

    countries: Literal["iso", "paper"] = "iso"
    num_cities: int | None = None  # of a country, or of a region of the tree
    file: Path | None = None

    def load(self, method: str) -> Labels:
        """The labels for a method of probing."""
        if self.file is not None:
            return read_labels(self.file)
        counts = {} if self.num_cities is None else {"cities_per_region" if method == "tree" else "cities_per_country":
                                                     self.num_cities}  # fmt: skip
        return tree_labels(**counts) if method == "tree" else streetclip_labels(self.countries, **counts)


@dataclass(frozen=True, kw_only=True)
class Import:
    """What to import: which publication, from where, checked by what, and how it is to answer."""

    kind: str
    source: str | None = None
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None
    labels: LabelChoice = LabelChoice()
    method: Literal["greedy", "beam", "tree"] = "greedy"
    beam: int = 5

    def __post_init__(self) -> None:
        if self.kind not in PUBLISHED:
            raise InputError(f"nothing published is called {self.kind!r}; there are: {', '.join(PUBLISHED)}")
        if not (self.source or PUBLISHED[self.kind].source):
            raise InputError("which CLIP weights? name a folder, an s3:// prefix, owner/name on the hub, or MODEL:TAG "
                             "of open_clip")  # fmt: skip

    @property
    def publication(self) -> Publication:
        """What is known of it."""
        return PUBLISHED[self.kind]


def import_bundle(what: Import, output: Path, say: Callable[[str], None] = print) -> None:
    """Write the bundle of published weights to ``output``, which must be new or empty.

    Raises ``InputError`` where the weights can't be had or aren't what they should be, and ``OutputError``.
    """
    fetched = fetch_checkpoint(what.source or what.publication.source, what.revision)
    say(f"reading {fetched.folder}")
    checkpoint = read_checkpoint(fetched.folder, what.sha256)
    if what.kind == "geoclip":
        _import_geoclip(what, checkpoint, fetched, output, say)
    else:
        _import_clip(what, checkpoint, fetched, output, say)


def _import_clip(
    what: Import, checkpoint: ClipCheckpoint, fetched: Fetched, output: Path, say: Callable[[str], None]
) -> None:
    labels = what.labels.load(what.method)
    say(f"embedding {len(labels.ids):,} captions")
    probing = Probing(method=what.method, beam=what.beam, logit_scale=checkpoint.logit_scale)
    write_zero_shot(
        output,
        tower=image_tower(checkpoint),
        encoder=encoder_spec(checkpoint),
        labels=labels,
        label_features=embed_texts(checkpoint, labels.texts.tolist()),
        probing=probing,
        words=_words(what, checkpoint, fetched),
    )


def _import_geoclip(
    what: Import, checkpoint: ClipCheckpoint, fetched: Fetched, output: Path, say: Callable[[str], None]
) -> None:
    published = read_geoclip()
    num_features = checkpoint.config["embed_dim"]
    if num_features != CLIP_FEATURES:
        raise InputError(f"{fetched.origin}: its features have {num_features} numbers, GeoCLIP needs CLIP ViT-L/14's "
                         f"{CLIP_FEATURES}; name openai/clip-vit-large-patch14 or a copy of it")  # fmt: skip
    say(f"embedding {len(published.gallery_latlon):,} places")
    location_encoder = LocationEncoder()
    location_encoder.load_state_dict(published.location_encoder)
    features = embed_locations(location_encoder.eval(), published.gallery_latlon)
    tower = {f"0.{name}": tensor for name, tensor in image_tower(checkpoint).items()}
    tower |= {f"1.{name}": tensor for name, tensor in published.adapter.items()}
    write_gallery_bundle(
        output,
        tower=tower,
        encoder=encoder_spec(checkpoint, adapter="geoclip", num_features=features.shape[1]),
        features=features,
        latlon=published.gallery_latlon,
        search=GallerySearch(logit_scale=published.logit_scale),
        words=_words(what, checkpoint, fetched),
    )


def encoder_spec(checkpoint: ClipCheckpoint, **changes: Any) -> EncoderSpec:
    """The encoder of a checkpoint's image tower: projected features of length one, the pixels its library makes."""
    settings = {
        "architecture": "clip",
        "clip": checkpoint.config,
        "image_size": checkpoint.config["vision_cfg"]["image_size"],
        "num_features": checkpoint.config["embed_dim"],
        "preprocessing": checkpoint.preprocessing,
        "image_mean": checkpoint.image_mean,
        "image_std": checkpoint.image_std,
    }
    return EncoderSpec(**(settings | changes))


def image_tower(checkpoint: ClipCheckpoint) -> dict[str, torch.Tensor]:
    """The tensors of the image tower, by open_clip's names without ``visual.``."""
    state = checkpoint.state
    return {name.removeprefix(VISUAL): tensor for name, tensor in state.items() if name.startswith(VISUAL)}


def _words(what: Import, checkpoint: ClipCheckpoint, fetched: Fetched) -> Words:
    published = what.publication
    attribution = published.attribution if what.kind == "geoclip" else published.attribution + CITIES
    return Words(
        description=published.description,
        licence=what.licence or published.licence,
        attribution=attribution,
        provenance={
            "imported": what.kind,
            "source": fetched.origin,
            "revision": fetched.revision,
            "weights_sha256": checkpoint.weights_sha256,
            "versions": {"geo-ray": __version__} | {name: version(name) for name in ("open_clip_torch", "torch")},
        },
    )
