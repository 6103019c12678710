"""Which prediction belongs to which row of the truth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from geo_ray.errors import InputError
from geo_ray.evaluation.tables import Predictions, Truth

# Only what is surely an extension: ids such as "2014.07" keep their dot.
IMAGE_EXTENSION = r"(?i)\.(jpe?g|png|webp|gif|tiff?|bmp|mpo|jp2|heic|heif|avif)$"


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Pairs of rows, by rising row of the predictions, and how they were found.

    ``by`` says how ids were compared: as they are, or how they had to be changed to be equal.
    """

    prediction_rows: Int[np.ndarray, "n"]
    truth_rows: Int[np.ndarray, "n"]
    num_predictions: int
    num_truth: int
    by: str

    def __len__(self) -> int:
        return len(self.prediction_rows)

    def describe(self) -> str:
        """One sentence for a person."""
        lost, unused = self.num_predictions - len(self), self.num_truth - len(self)
        return (
            f"{len(self):,} images matched by {self.by}; {lost:,} predictions without truth, "
            f"{unused:,} rows of truth without prediction"
        )


def _without_extension(ids: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(ids, IMAGE_EXTENSION, "")


def _flat(ids: pa.Array) -> pa.Array:
    """As MP16-Pro and others make file names of Flickr's paths: '/' becomes '_'."""
    return pc.replace_substring(_without_extension(ids), "/", "_")


def _file_name(ids: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(_without_extension(ids), r"^.*/", "")


# From the strictest; a looser way is taken only where it matches more.
WAYS: tuple[tuple[str, Callable[[pa.Array], pa.Array]], ...] = (
    ("image id", lambda ids: ids),
    ("image id without extension", _without_extension),
    ("image id without extension, '/' as '_'", _flat),
    ("file name without extension", _file_name),
)


def match(predictions: Predictions, truth: Truth) -> Matching:
    """Pairs of rows with the same id, compared in the way of ``WAYS`` that matches most.

    Raises ``InputError`` where nothing matches, or only ids that would stand for several images.
    """
    best, ambiguous = None, ""
    for by, normal in WAYS:
        ids, true_ids = normal(predictions.ids), normal(truth.ids)
        common = ids.filter(pc.is_in(ids, value_set=true_ids))
        distinct = pc.count_distinct(common).as_py()
        if not distinct == len(common) == len(true_ids.filter(pc.is_in(true_ids, value_set=ids))):
            ambiguous = ambiguous or f"by {by}, {_examples(_repeated(common, true_ids))} stand for several images"
        elif distinct > (len(best) if best else 0):
            best = _pairs(ids, true_ids, by)
    if best is None:
        raise InputError(_nothing(predictions, truth, ambiguous))
    return best


def _pairs(ids: pa.Array, true_ids: pa.Array, by: str) -> Matching:
    found = pc.index_in(ids, value_set=true_ids)
    rows = np.flatnonzero(pc.is_valid(found).to_numpy(zero_copy_only=False))
    return Matching(
        prediction_rows=rows,
        truth_rows=found.drop_null().to_numpy().astype(np.int64),
        num_predictions=len(ids),
        num_truth=len(true_ids),
        by=by,
    )


def _repeated(common: pa.Array, true_ids: pa.Array) -> pa.Array:
    counts = pc.value_counts(pa.concat_arrays([common, true_ids.filter(pc.is_in(true_ids, value_set=common))]))
    return counts.filter(pc.greater(counts.field("counts"), 2)).field("values")


def _examples(ids: pa.Array) -> str:
    return ", ".join(repr(value) for value in ids[:3].to_pylist()) or "none"


def _nothing(predictions: Predictions, truth: Truth, ambiguous: str) -> str:
    if ambiguous:
        return f"{truth.path} does not fit {predictions.path}: {ambiguous}; give the table the image ids as they are"
    return (
        f"no image id of {predictions.path} ({_examples(predictions.ids)}) is in {truth.path} "
        f"({_examples(truth.ids)}), neither as it is, nor without extension, nor with '/' as '_', nor as a file name; "
        "check that both are of the same images and that the table's id column holds the image ids"
    )
