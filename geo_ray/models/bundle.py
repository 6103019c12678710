"""Bundle: one folder with all that inference needs."""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from geo_ray.cells.partition_file import read_partition
from geo_ray.errors import BundleError
from geo_ray.geo.calibration import Calibration, read_calibration
from geo_ray.index.gallery import GallerySearch
from geo_ray.index.index_folder import DESCRIPTION, read_info
from geo_ray.index.probe import Probing
from geo_ray.index.refine import Refinement
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.local_files import adopt, cache_folder, sha256_of
from geo_ray.remote_files import CHECK, filesystem, remote_errors

FORMAT = 1
MANIFEST = "bundle.json"
CALIBRATION = "calibration.json"
CELLS = "cells.parquet"
WEIGHTS = "weights.safetensors"  # of the tower
HEAD = "head.safetensors"
LABELS = "labels.parquet"
LABEL_FEATURES = "label_features.npy"
INDEX = "index"
GALLERY = "gallery"
ADDRESSES = "addresses.parquet"  # what the rows of an address bundle's gallery are called
TEXT = "text"  # the text tower, for candidates of one's own
ENTRIES = ("kind", "description", "licence", "attribution", "encoder", "encoder_fingerprint", "files", "fingerprint")
FILING = ("filed_by", "partition_digest")  # entries of bundles of cells: as their index says, and of their cells

Parameters = Refinement | Probing | GallerySearch
# For each kind of bundle, the manifest's entry that says how a place is found, and what reads it.
KINDS: dict[str, tuple[str, type[Refinement] | type[Probing] | type[GallerySearch]]] = {
    "cells": ("refinement", Refinement),
    "zero-shot": ("probing", Probing),
    "gallery": ("gallery", GallerySearch),
    "address": ("addresses", GallerySearch),
}


P = TypeVar("P", Refinement, Probing, GallerySearch)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle: its manifest, and where its files lie. ``ref`` is what the user called it."""

    ref: str
    folder: Path
    kind: str
    description: str
    licence: str
    attribution: str
    encoder: EncoderSpec
    encoder_fingerprint: str
    parameters: Parameters
    files: dict[str, str]
    fingerprint: str
    provenance: dict[str, Any]
    max_pixels: int = 100_000_000  # of an image, as decode_image counts: 400 MB in memory
    filed_by: str = "center"  # of cells: the rule by which a place is in one (``cells.labels.FILINGS``)
    partition_digest: str = ""  # of cells: whose they are; empty where the bundle doesn't say

    @property
    def image_size(self) -> int:
        """Pixels of a side of the tower's input."""
        return self.encoder.image_size

    @property
    def num_features(self) -> int:
        """Length of an image feature vector."""
        return self.encoder.num_features

    @property
    def refinement(self) -> Refinement:
        """How a bundle of cells finds a place."""
        return self._parameters(Refinement)

    @property
    def probing(self) -> Probing:
        """How a zero-shot bundle finds a place."""
        return self._parameters(Probing)

    @property
    def gallery_search(self) -> GallerySearch:
        """How a bundle with a gallery, of places or of addresses, finds a place."""
        return self._parameters(GallerySearch)

    def _parameters(self, wanted: type[P]) -> P:
        if not isinstance(self.parameters, wanted):
            raise ValueError(f"bundle {self.ref} of kind {self.kind!r} has no {wanted.__name__}")
        return self.parameters

    @property
    def num_candidates(self) -> int:
        """How many places it weighs for an image."""
        parameters = self.parameters
        return parameters.num_cells if isinstance(parameters, Refinement) else parameters.num_candidates

    def path(self, name: str) -> Path:
        """Where a file or folder of the bundle lies."""
        return self.folder / name

    @property
    def size_bytes(self) -> int:
        """What its files take together."""
        return sum(self.path(name).stat().st_size for name in self.files)

    def summary(self) -> dict[str, Any]:
        """What a person may want to know of it."""
        shown = ("ref", "kind", "description", "licence", "attribution", "fingerprint", "encoder_fingerprint")
        return {name: getattr(self, name) for name in (*shown, "size_bytes")} | {
            "folder": str(self.folder),
            "encoder": dataclasses.asdict(self.encoder),
            KINDS[self.kind][0]: dataclasses.asdict(self.parameters),
            "calibrated": self.calibration() is not None,
            "provenance": self.provenance,
        }

    def cells_digest(self) -> str:
        """Whose cells these are, from the file itself where an older manifest doesn't say."""
        return self.partition_digest or read_partition(self.path(CELLS)).digest

    def index_wanted(self) -> dict[str, Any]:
        """What an index must be like to be searched for this bundle of cells, for ``index_folder.check_info``."""
        return {
            "num_features": self.num_features,
            "encoder_fingerprint": self.encoder_fingerprint,
            "filed_by": self.filed_by,
            "partition_digest": self.cells_digest(),
            "with_hubness": self.refinement.measure == "csls",
        }

    def calibrated_with(self, index: str = "") -> bool:
        """Whether it was calibrated with the index of this name, or (empty) with its own."""
        calibration = self.calibration()
        return calibration is not None and calibration.index == index

    def calibration(self) -> Calibration | None:
        """What an answer's numbers mean; None where that was never fitted. ``BundleError`` where it can't be read."""
        path = self.path(CALIBRATION)
        values = json.loads(path.read_text()) if path.is_file() else {}
        try:
            return read_calibration(values) if values else None
        except (KeyError, TypeError, ValueError) as error:
            remedy = "calibrate the bundle again: geo-ray bundle calibrate"
            raise BundleError(
                f"bundle {self.ref}: {CALIBRATION} is of another version ({error!r}); {remedy}"
            ) from error


def write_manifest(
    folder: Path,
    *,
    kind: str,
    description: str,
    licence: str,
    attribution: str,
    encoder: EncoderSpec,
    parameters: Parameters,
    provenance: dict[str, Any],
) -> None:
    """Seal a folder as a bundle: list its files with their digests and derive the fingerprints from them."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    digests = {p.relative_to(folder).as_posix(): sha256_of(p) for p in paths}
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "description": description,
        "licence": licence,
        "attribution": attribution,
        "encoder": encoder.entries(),
        "encoder_fingerprint": _digest({"encoder": encoder.entries(), "weights": digests[WEIGHTS]}),
        KINDS[kind][0]: dataclasses.asdict(parameters),
        "files": digests,
        "provenance": provenance,
    }
    if kind == "cells" and (folder / INDEX / DESCRIPTION).is_file():
        digest = read_partition(folder / CELLS).digest if (folder / CELLS).is_file() else ""
        manifest |= {"filed_by": read_info(folder / INDEX).filed_by, "partition_digest": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest | {"fingerprint": _fingerprint(manifest)}, indent=1) + "\n")


def _fingerprint(manifest: dict[str, Any]) -> str:
    """Of all that can change an answer: not of the words that describe it."""
    names = ("kind", "encoder", "encoder_fingerprint", KINDS[manifest["kind"]][0], "files")
    return _digest({name: manifest[name] for name in names})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def shipped_bundles() -> dict[str, Path]:
    """The bundles that come with the package, by name."""
    root = Path(str(files("geo_ray") / "bundles"))
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{MANIFEST}"))}


def open_bundle(ref: str) -> Bundle:
    """The bundle that ``ref`` names: one that ships, a folder, or an ``s3://`` prefix; every file is checked.

    Opened again in the same process, unchanged, it costs nothing. Raises ``BundleError`` that says which file is
    missing or damaged and what to do.
    """
    folder = _locate(ref)
    return _checked(ref, folder, (folder / MANIFEST).read_bytes())


@lru_cache(maxsize=8)
def _checked(ref: str, folder: Path, content: bytes) -> Bundle:
    """The bundle in a folder whose manifest has this content, once its files are known to be whole."""
    manifest = _parse_manifest(content, ref)
    if manifest["fingerprint"] != _fingerprint(manifest):
        raise BundleError(f"bundle {ref}: {MANIFEST} was changed after the bundle was built; restore the bundle")
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"bundle {ref}: {name} is missing from {folder}; restore the bundle")
        if sha256_of(path) != digest:
            raise BundleError(f"bundle {ref}: {name} is damaged (sha256 differs from {MANIFEST}); restore the bundle")
    return Bundle(
        ref=ref,
        folder=folder,
        encoder=_encoder_spec(manifest["encoder"]),
        parameters=_parameters(manifest),
        provenance=manifest.get("provenance", {}),
        **{n: manifest[n] for n in ENTRIES if n != "encoder"},
        **{n: manifest[n] for n in FILING if manifest.get(n)},
    )


def _encoder_spec(values: dict[str, Any]) -> EncoderSpec:
    listed = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}  # JSON has no tuples
    return EncoderSpec(**(values | listed))


def _parameters(manifest: dict[str, Any]) -> Parameters:
    entry, reader = KINDS[manifest["kind"]]
    return reader(**manifest[entry])


def _parse_manifest(content: bytes, ref: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(content)
        version = manifest["format"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise BundleError(f"bundle {ref}: {MANIFEST} is damaged ({error}); restore the bundle") from error
    if version != FORMAT:
        raise BundleError(f"bundle {ref}: format {version} is not {FORMAT}, which this version of geo-ray reads")
    if missing := [name for name in ENTRIES if name not in manifest]:
        raise BundleError(f"bundle {ref}: {MANIFEST} is damaged (it lacks {missing}); restore the bundle")
    if manifest["kind"] not in KINDS:
        raise BundleError(f"bundle {ref}: kind {manifest['kind']!r} is none of {', '.join(KINDS)}, which geo-ray reads")
    if (entry := KINDS[manifest["kind"]][0]) not in manifest:
        raise BundleError(f"bundle {ref}: {MANIFEST} is damaged (it lacks {entry!r}); restore the bundle")
    return manifest


def _locate(ref: str) -> Path:
    """The local folder of a bundle, fetched once per content where it is remote."""
    shipped = shipped_bundles()
    if ref in shipped:
        return shipped[ref]
    if "://" in ref:
        return _fetch(ref)
    folder = Path(ref)
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"no bundle {ref!r}: it is not a folder with {MANIFEST}; these ship with geo-ray: "
            f"{', '.join(shipped) or 'none'}"
        )
    return folder


def _fetch(ref: str) -> Path:
    """A local copy of a remote bundle, in a folder named for its manifest's digest."""
    with remote_errors(lambda why: BundleError(f"bundle {ref} can't be fetched ({why}); {CHECK}")):
        fs, root = filesystem(ref)
        manifest = fs.cat_file(f"{root.rstrip('/')}/{MANIFEST}")
        folder = cache_folder() / hashlib.sha256(manifest).hexdigest()[:16]
        if not (folder / MANIFEST).is_file():
            partial = folder.with_name(f"{folder.name}.{os.getpid()}")
            fs.get(root.rstrip("/") + "/", f"{partial}/", recursive=True)
            adopt(partial, folder)
    return folder
