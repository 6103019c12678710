"""Where the shards of an index lie: in place on a file system that all nodes see, or copied from a URI, once a node."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from geo_ray.errors import BundleError
from geo_ray.index.index_folder import DESCRIPTION, IndexInfo, read_info
from geo_ray.index.shard import Shard, open_shard
from geo_ray.index.split import MANIFEST, OWNERS, read_split
from geo_ray.models.local_files import adopt, cache_folder, sha256_of
from geo_ray.remote_files import CHECK, filesystem, remote_errors

SHA256 = "sha256"  # the manifest's entry of digests by file


@dataclass(frozen=True, kw_only=True)
class ShardSource:
    """One shard: where it lies, of which generation, what it holds, and the digests of its files where they are known.

    Small and picklable: actors are given this, never the shard.
    """

    address: str
    generation: str
    info: IndexInfo
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.address.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """An index in shards: what the whole holds, which shard holds a cell, and where each shard lies."""

    address: str
    generation: str
    whole: IndexInfo
    owners: Int64[np.ndarray, "C"]
    shards: tuple[ShardSource, ...]


def find_shards(address: str) -> ShardSet:
    """The shards of the index in a folder or at a URI, from its manifest alone; ``BundleError`` where that is damaged.

    A folder with an index that isn't split is one shard. At a URI it must be split, or copies couldn't be told apart.
    """
    if "://" in address:
        with _copied_manifest(address) as copy:
            return _from_split(copy, address.rstrip("/"))
    folder = Path(address).resolve()  # workers have working directories of their own
    if (folder / MANIFEST).is_file() or not (folder / DESCRIPTION).is_file():
        return _from_split(folder, str(folder))
    info = read_info(folder)
    shard = ShardSource(address=str(folder), generation=info.generation, info=info)
    owners = np.zeros(info.num_cells, np.int64)
    return ShardSet(address=str(folder), generation=info.generation, whole=info, owners=owners, shards=(shard,))


def open_source(source: ShardSource, num_threads: int = 1, cache: str = "") -> Shard:
    """The searcher over a shard, copied to this node before where it lies at a URI. ``BundleError`` names what's wrong.

    ``cache`` is the folder of the copies, by default that of all of geo-ray's downloads.
    """
    folder = local_copy(source, cache) if "://" in source.address else Path(source.address)
    shard = open_shard(folder, num_threads, source.generation)
    if read_info(folder) != source.info:
        raise BundleError(f"shard {folder} is not the one that {MANIFEST} lists; split the index again")
    return shard


def local_copy(source: ShardSource, cache: str = "") -> Path:
    """The folder of this node's copy of a shard, made where there is none; of all processes one makes it.

    A copy has its name only once every file has the size that the source says and the digest that the manifest lists.
    """
    folder = (Path(cache) if cache else cache_folder() / "shards") / source.generation / source.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _turn(folder.with_suffix(".lock")):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as partial:
                copy = Path(partial) / folder.name
                _download(source, copy)
                adopt(copy, folder)
    return folder


def add_digests(folder: Path) -> None:
    """List the SHA-256 of every shard's files in the manifest of a split, so that copies of them can be checked."""
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    path = folder / MANIFEST
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(json.loads(path.read_text()) | {SHA256: digests}, indent=1) + "\n")
    partial.replace(path)


def _from_split(folder: Path, address: str) -> ShardSet:
    split = read_split(folder)
    digests: dict[str, str] = json.loads((folder / MANIFEST).read_text()).get(SHA256, {})
    shards = tuple(
        ShardSource(
            address=f"{address}/{path.name}",
            generation=split.generation,
            info=info,
            digests={
                Path(name).name: digest for name, digest in digests.items() if Path(name).parent.name == path.name
            },
        )
        for path, info in zip(split.folders, split.shards, strict=True)
    )
    return ShardSet(address=address, generation=split.generation, whole=split.whole, owners=split.owners, shards=shards)


@contextlib.contextmanager
def _copied_manifest(address: str) -> Iterator[Path]:
    """A folder with the manifest of the split at a URI and the cells' owners."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with _reading(address) as (fs, root):
            if not fs.exists(f"{root}/{MANIFEST}"):
                raise BundleError(f"index {address} has no {MANIFEST}; split it with `geo-ray index build --shards N`")
            for name in (MANIFEST, OWNERS):
                (folder / name).write_bytes(fs.cat_file(f"{root}/{name}"))
        yield folder


def _download(source: ShardSource, folder: Path) -> None:
    """Copy the files of a shard, each checked."""
    folder.mkdir()
    with _reading(source.address) as (fs, root):
        for info in fs.ls(root, detail=True):
            name = str(info["name"]).rpartition("/")[2]
            fs.get_file(info["name"], str(folder / name))
            size = (folder / name).stat().st_size
            if size != info["size"]:
                raise BundleError(f"{source.address}/{name}: {size} of {info['size']} bytes arrived; try again")
            if source.digests and sha256_of(folder / name) != source.digests.get(name):
                raise BundleError(f"{source.address}/{name} is damaged (sha256 differs from {MANIFEST}); restore it")


@contextlib.contextmanager
def _reading(address: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URI and the path within it; what goes wrong meanwhile is a ``BundleError``."""
    with remote_errors(lambda why: BundleError(f"{address} can't be fetched ({why}); {CHECK}")):
        fs, root = filesystem(address)
        yield fs, root.rstrip("/")


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Waits until no other process holds the file; one that dies gives it up."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
