"""What a GPU holds where places are searched on it."""

import numpy as np

from geo_ray.index.features import DTYPES
from geo_ray.index.index_folder import read_info
from geo_ray.models.bundle import GALLERY, INDEX, LABEL_FEATURES, Bundle

MAX_SEARCH_BYTES = 4 * 2**30  # of a GPU, unless asked for: 5 million members of 768 features in int8
BYTES_PER_ROW = 8  # of an index, beside its features: a float32 to scale it, one for its length


def search_bytes(bundle: Bundle) -> int:
    """Bytes of what a bundle's images are compared with: a head and an index, a gallery, or labels."""
    if bundle.kind in ("gallery", "address"):
        return bundle.path(GALLERY).joinpath("features.npy").stat().st_size
    if bundle.kind == "zero-shot":
        return 2 * bundle.path(LABEL_FEATURES).stat().st_size  # in float64
    info = read_info(bundle.path(INDEX))
    head = 8 * info.num_cells * bundle.num_features
    rows = info.num_prototypes + info.num_members
    return int(head + rows * (info.num_features * np.dtype(DTYPES[info.dtype]).itemsize + BYTES_PER_ROW))


def fits_gpu(bundle: Bundle) -> bool:
    """Whether that leaves a GPU room for the encoder, by default."""
    return search_bytes(bundle) <= MAX_SEARCH_BYTES
