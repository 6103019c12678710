"""Which prediction belongs to which row of the truth."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from geo_ray.errors import InputError
from geo_ray.evaluation.tables import Predictions, Truth
from geo_ray.tables.joining import examples, join


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
    ambiguous: str = ""  # which ids a stricter or looser way would have matched with several images

    def __len__(self) -> int:
        return len(self.prediction_rows)

    def take(self, rows: Int[np.ndarray, "m"]) -> "Matching":
        """These of the pairs."""
        return replace(self, prediction_rows=self.prediction_rows[rows], truth_rows=self.truth_rows[rows])

    def describe(self) -> str:
        """One sentence for a person."""
        lost, unused = self.num_predictions - len(self), self.num_truth - len(self)
        why = f"; {self.ambiguous}" if lost and self.ambiguous else ""
        return (
            f"{len(self):,} images matched by {self.by}; {lost:,} predictions without truth, "
            f"{unused:,} rows of truth without prediction{why}"
        )


def match(predictions: Predictions, truth: Truth) -> Matching:
    """Pairs of rows with the same id, compared as ``tables.joining`` does.

    Raises ``InputError`` where nothing matches, or only ids that would stand for several images.
    """
    joined, ambiguous = join(predictions.ids, truth.ids)
    if joined is None:
        raise InputError(_nothing(predictions, truth, ambiguous))
    return Matching(
        prediction_rows=joined.rows,
        truth_rows=joined.other_rows,
        num_predictions=len(predictions.ids),
        num_truth=len(truth.ids),
        by=joined.by,
        ambiguous=ambiguous,
    )


def _nothing(predictions: Predictions, truth: Truth, ambiguous: str) -> str:
    if ambiguous:
        return f"{truth.path} does not fit {predictions.path}: {ambiguous}; give the table the image ids as they are"
    return (
        f"no image id of {predictions.path} ({examples(predictions.ids)}) is in {truth.path} "
        f"({examples(truth.ids)}), neither as it is, nor without extension or container, nor as a file name; "
        "check that both are of the same images and that the table's id column holds the image ids"
    )
