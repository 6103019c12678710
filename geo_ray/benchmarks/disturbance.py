"""What a disturbed run is measured by: each image once, the answers of an undisturbed run, little work done twice."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.record.ledger import PREDICTIONS

TOLERANCE = 1e-6  # of numbers; words and cells must be equal
DERIVED = {"geometry"}  # latitude and longitude again, as bytes


def compare_answers(
    output: Path, expected: Path, image_ids: Collection[str], bad_ids: Collection[str]
) -> dict[str, Any]:
    """How the predictions of two outputs for the same images differ, and whether the bad images have a problem."""
    ours, theirs = (pq.read_table(folder / PREDICTIONS) for folder in (output, expected))
    counts = Counter(ours["image_id"].to_pylist())
    result: dict[str, Any] = {
        "num_rows": len(ours),
        "num_missing": len(set(image_ids) - counts.keys()),
        "num_doubled": sum(count > 1 for count in counts.values()),
        "num_unknown": len(counts.keys() - set(image_ids)),
    }
    result["exactly_once"] = len(ours) == len(image_ids) and not any(
        result[name] for name in ("num_missing", "num_doubled", "num_unknown")
    )
    words, numbers = differences(ours, theirs)
    result |= {"columns_that_differ": words, "largest_difference": numbers}
    result["answers_equal"] = not words and numbers <= TOLERANCE
    result["problems"] = dict(Counter(problem for problem in ours["problem"].to_pylist() if problem))
    has_problem = {row["image_id"] for row in ours.select(["image_id", "problem"]).to_pylist() if row["problem"]}
    result["problems_are_the_bad_ones"] = has_problem == set(bad_ids)
    return result


def differences(ours: pa.Table, theirs: pa.Table) -> tuple[list[str], float]:
    """The columns of which words, lengths or nulls differ, and the largest difference of two numbers."""
    if len(ours) != len(theirs):
        return ["(number of rows)"], 0.0
    ours, theirs = (table.sort_by("image_id").combine_chunks() for table in (ours, theirs))
    differing, largest = [], 0.0
    for name in (name for name in theirs.column_names if name not in DERIVED):
        for (path, one), (_, other) in zip(_leaves(name, ours[name]), _leaves(name, theirs[name]), strict=True):
            if pa.types.is_floating(one.type) and one.is_null().equals(other.is_null()):
                largest = max(largest, _largest_difference(one, other))
            elif not one.equals(other):
                differing.append(path)
    return differing, largest


def _leaves(name: str, column: Any) -> Iterator[tuple[str, Any]]:
    """A column without its lists and structs: the lengths of lists, and the values in them by field."""
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(array.type):
        yield f"{name} (how many)", array.value_lengths()
        yield from _leaves(name, array.flatten())
    elif pa.types.is_struct(array.type):
        for field, values in zip(array.type, array.flatten(), strict=True):
            yield from _leaves(f"{name}.{field.name}", values)
    else:
        yield name, array


def _largest_difference(one: Any, other: Any) -> float:
    ours, theirs = (array.drop_null().to_numpy() for array in (one, other))
    return float(np.abs(ours - theirs).max(initial=0.0))


def repeated_shares(counts: Counter[str], num_images: int) -> dict[str, float]:
    """What was done beyond once for each image, as shares of the images: reading, answering, committing.

    ``begun`` counts images that a worker took to answer them, so also those it lost when it was killed.
    """
    return {act: round(counts[act] / max(1, num_images) - 1, 4) for act in ("read", "begun", "committed")}
