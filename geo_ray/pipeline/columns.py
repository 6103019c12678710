"""The columns that flow through a graph, and the batch that carries them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from geo_ray.geo.calibration import UNCERTAIN

Batch = dict[str, np.ndarray]  # column name -> array; every array has the same leading axis

HAS_LOCATION = "has_location"  # left out as asked, so no failure
KILLS_WORKER = "kills_worker"
NO_ADDRESS = "no_address"
CODES = {
    "empty": "the file has no bytes",
    "not_a_file": "the path is a directory or another thing that can't be read as a file",
    "fetch_failed": "the bytes could not be read",
    "no_image": "the row of the table names no image",
    "not_found": "the server says that there is no such image, or no longer",
    "http_error": "the server answered with an error, or kept asking to wait",
    "timeout": "the server did not answer in time",
    "blocked_address": "the URL may not be fetched: not http or https, not a usual port, or not a public address",
    "blocked_path": "the manifest may not name this file: it lies outside its folder, or in no object store",
    "damaged_file": "the file that holds the image is damaged; what follows in it may be missing",
    "undecodable": "the bytes are not an image in a supported format, or end too early",
    "too_large": "the image has more pixels or bytes than allowed",
    "no_answer": "the model gave no finite answer",
    KILLS_WORKER: "the process that was to answer the image ended each time, as by a crash or for want of memory",
    UNCERTAIN: "the answer, which is kept, is less certain than --min-probability or --max-radius-km ask for",
    NO_ADDRESS: "none of the addresses lies in the cells that --within finds the image in",
    HAS_LOCATION: "the photo carries a position, and such photos were to be skipped",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A named column: dtype and shape of one row's entry, and what a row with a problem holds."""

    name: str
    dtype: str = "object"
    shape: tuple[int, ...] = ()
    fill: Any = None

    def blank(self, num_rows: int) -> np.ndarray:
        """The column for rows that have no value."""
        if self.dtype != "object":
            return np.full((num_rows, *self.shape), self.fill, dtype=self.dtype)
        column = np.empty(num_rows, dtype=object)
        column[:] = [self.fill] * num_rows
        return column


IMAGE_ID = Column(name="image_id", fill="")
URI = Column(name="uri", fill="")
BYTES = Column(name="bytes")
PROBLEM = Column(name="problem", fill="")
SOURCE = (IMAGE_ID, URI, BYTES, PROBLEM)  # what every source yields; ``problem`` is set where ``bytes`` is None
MAX_VIEWS = 8

# What every kind of bundle answers, in the order of the prediction files.
ANSWER = (
    Column(name="latitude", dtype="float64", fill=np.nan),
    Column(name="longitude", dtype="float64", fill=np.nan),
    Column(name="cell_id", fill=""),
    Column(name="probability", dtype="float64", fill=np.nan),
    Column(name="region_probability", dtype="float64", fill=np.nan),
    Column(name="country_probability", dtype="float64", fill=np.nan),
    Column(name="radius_km_50", dtype="float64", fill=np.nan),
    Column(name="radius_km_90", dtype="float64", fill=np.nan),
    Column(name="unlike", dtype="float64", fill=np.nan),
    Column(name="country", fill=""),
    Column(name="region", fill=""),
    Column(name="place", fill=""),
    Column(name="candidates", fill=()),
    Column(name="cell_latitude", dtype="float64", fill=np.nan),
    Column(name="cell_longitude", dtype="float64", fill=np.nan),
    Column(name="bundle_fingerprint", fill=""),
)

# What bundles of addresses answer beside that, of the answer; candidates have them too.
ADDRESS = (
    Column(name="address", fill=""),
    Column(name="street", fill=""),
    Column(name="neighbourhood", fill=""),
)

# Where a photo's EXIF says that it was taken, and how far from there the answer is: only where that is asked for.
EXIF_POINT = (
    Column(name="exif_latitude", dtype="float64", fill=np.nan),
    Column(name="exif_longitude", dtype="float64", fill=np.nan),
)
EXIF_DISTANCE = Column(name="exif_distance_km", dtype="float64", fill=np.nan)


def located(num_candidates: int) -> tuple[Column, ...]:
    """What every way of finding a place answers, for ``Describe``.

    Numbers of the candidates (K) with their points and probabilities, which of them is the answer, the answer's point
    in degrees, how far the image is from the nearest known one or label in feature space, how far the candidates spread
    about the answer in km, and the place of the most probable cell, country or other first step before anything finer
    was looked at; NaN where there is none.
    """
    k = num_candidates
    return (
        Column(name="cells", dtype="int64", shape=(k,), fill=0),
        Column(name="latlon", dtype="float64", shape=(2,), fill=np.nan),
        Column(name="winner", dtype="int64", fill=0),
        Column(name="candidate_latlon", dtype="float64", shape=(k, 2), fill=np.nan),
        Column(name="candidate_probability", dtype="float64", shape=(k,), fill=0.0),
        Column(name="feature_distance", dtype="float64", fill=np.nan),
        Column(name="spread_km", dtype="float64", fill=np.nan),
        Column(name="top_latlon", dtype="float64", shape=(2,), fill=np.nan),
    )


def view_columns(num_views: int) -> tuple[str, ...]:
    """Names of the columns with the bytes of each view of an item; a row that has fewer holds None in the last."""
    return ("bytes", *(f"bytes_{number}" for number in range(2, num_views + 1)))


def has_answer(problem: Shaped[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Which rows have an answer, certain or not, by their problems."""
    return np.asarray((problem == "") | (problem == UNCERTAIN), bool)


def num_rows(batch: Batch) -> int:
    """How many rows a batch has."""
    return len(next(iter(batch.values())))


def source_batch(image_ids: list[str], uris: list[str], contents: list[bytes | None], problems: list[str]) -> Batch:
    """A batch of source columns from lists."""
    batch = {column.name: column.blank(len(image_ids)) for column in SOURCE}
    for name, values in (("image_id", image_ids), ("uri", uris), ("bytes", contents), ("problem", problems)):
        batch[name][:] = values
    return batch
