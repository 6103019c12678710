"""An index in words."""

from pathlib import Path

import numpy as np

from geo_ray.index.index_folder import IndexInfo, read_index, read_info
from geo_ray.index.split import MANIFEST, check_shards, read_split


def describe_folder(folder: Path) -> str:
    """What an index holds, and how it is stored; of one in shards, what each shard holds.

    Every file is opened and its size checked. Raises ``BundleError``.
    """
    if (folder / MANIFEST).is_file():
        split = read_split(folder)
        check_shards(split)
        shards = (f"  shard {number}: {counts_text(info)}" for number, info in enumerate(split.shards))
        return "\n".join([f"{counts_text(split.whole)}, generation {split.generation}", _storage(split.whole), *shards])
    index = read_index(folder)
    counts = np.diff(index.cell_members)
    used = counts[counts > 0]
    sizes = f"cells with members: {len(used):,}; members a cell: median {np.median(used):,.0f}, most {used.max():,}"
    info = read_info(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return "\n".join(
        [counts_text(info), _storage(info) + f", {size / 2**20:,.1f} MiB", sizes if len(used) else "no members"]
    )


def counts_text(info: IndexInfo) -> str:
    """What an index holds, in a phrase."""
    return f"{info.num_members:,} members in {info.num_prototypes:,} prototypes of {info.num_cells:,} cells"


def _storage(info: IndexInfo) -> str:
    encoder = info.encoder_fingerprint or "not recorded"
    filing = f", filed by {info.filed_by} in cells {info.partition_digest}" if info.filed_by else ""
    return f"{info.num_features} features as {info.dtype}, metric {info.metric}, encoder {encoder}{filing}"
