"""The map of a text over a city: how like it each address is, in words or by its images."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import shapely
from jaxtyping import Float64

from geo_ray.atlas.addresses import Addresses, read_addresses
from geo_ray.atlas.geoparquet import reading
from geo_ray.errors import InputError
from geo_ray.evaluation.address_figures import draw_heat
from geo_ray.index.gallery import read_gallery
from geo_ray.models.address_bundle import query_features
from geo_ray.models.bundle import ADDRESSES, GALLERY, Bundle

ROWS_AT_ONCE = 65_536


def draw_map(bundle: Bundle, text: str, output: Path, images: str = "", streets: str = "") -> str:
    """Draw the map of a text to ``output`` and a page beside it; returns a sentence on it.

    ``images`` is a folder of parquet files with ``features`` and ``address``. Raises ``InputError``.
    """
    if not text.strip():
        raise InputError("the text is empty; say what to look for")
    if output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"{output} is no picture; name a file that ends in .png")
    addresses = read_addresses(bundle.path(ADDRESSES))
    query = query_features(bundle, [text])[0].astype(np.float64)
    if images:
        values, compared = image_similarity(images, addresses, query), "its images"
    else:
        features = read_gallery(bundle.path(GALLERY)).features
        values, compared = np.asarray(features.astype(np.float64) @ query), "its words"
    there = np.flatnonzero(np.isfinite(values))
    if not len(there):
        raise InputError(f"{images} has no image of these addresses; name the features of the bundle's own training")
    lines = np.empty(0, dtype=object)
    if streets:
        with reading(streets, "streets"):
            lines = shapely.from_wkb(pq.read_table(streets)["geometry"].to_numpy(zero_copy_only=False))
    lead = f"How like this text each address is, by {compared}: the cosine of their features by {bundle.description}."
    draw_heat(values[there], addresses.take(there), lines, text, output, lead)
    best = addresses.texts[there[int(values[there].argmax())]]
    return f"map: {output}, {output.with_suffix('.html')}; most like it: {best}"


def image_similarity(folder: str, addresses: Addresses, query: Float64[np.ndarray, "D"]) -> Float64[np.ndarray, "a"]:
    """The mean cosine of each address's images with a text; NaN where it has none."""
    row_of = {text: row for row, text in enumerate(addresses.texts)}
    sums, counts = np.zeros(len(addresses)), np.zeros(len(addresses))
    try:
        dataset = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive", exclude_invalid_files=True)
        batches = dataset.to_batches(columns=["address", "features"], batch_size=ROWS_AT_ONCE)
        for batch in batches:
            features = batch["features"].flatten().to_numpy().reshape(len(batch), -1).astype(np.float64)
            if features.shape[1] != len(query):
                raise InputError(f"{folder} has features of {features.shape[1]} numbers, the bundle of {len(query)}")
            rows = np.array([row_of.get(text, -1) for text in batch["address"].to_pylist()], np.int64)
            there = rows >= 0
            np.add.at(sums, rows[there], features[there] @ query)
            np.add.at(counts, rows[there], 1)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{folder} holds no images with features and addresses ({error})") from error
    return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))
