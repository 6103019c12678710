"""Fitting a bundle's refinement, radii, probabilities and likeness on images whose places are known."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from geo_ray.data.run.preparation import find_index, other_index
from geo_ray.data.runner import apply_graph, fetch_inputs, fitted, rows_per_block
from geo_ray.data.sources import Input, input_blocks, list_inputs, num_views
from geo_ray.errors import InputError
from geo_ray.evaluation.bootstrap import Groups
from geo_ray.evaluation.calibration import (
    ENOUGH_PLACES,
    KnownAnswers,
    coverage_range,
    cross_fitted,
    fit_calibration,
)
from geo_ray.evaluation.comparison import groups_of
from geo_ray.evaluation.known_answers import LOCATED, known_answers
from geo_ray.evaluation.matching import match
from geo_ray.evaluation.refinement import fitted_fields, known_images
from geo_ray.evaluation.tables import Predictions, read_truth
from geo_ray.geo.metrics import weighted_median
from geo_ray.index.merge import Sharded
from geo_ray.index.shard import Searcher
from geo_ray.models.bundle import CALIBRATION, Bundle, Parameters, open_bundle
from geo_ray.models.bundle_writing import copy_bundle
from geo_ray.models.naming import open_naming
from geo_ray.pipeline.graph import calibration_graph, embedding_graph
from geo_ray.remote.place import Place
from geo_ray.remote.shard_files import open_source

MIN_PLACES = 20  # below it a radius of 90 % is one place's error


def calibrate(
    bundle_ref: str,
    inputs: tuple[str, ...],
    truth_path: str,
    output: Path,
    place: Place,
    views_by: str | None = None,
    group_by: str | None = None,
    index: str | None = None,
) -> str:
    """Write a copy of a bundle that is fitted to these images, on the connected Ray; returns a sentence on it.

    Fitted are radii, probabilities and the test of likeness, and of a bundle of cells the refinement before them. The
    images should be like those to be answered, and none that the model was trained on. Every place has one vote: a
    block of 0.25 degrees, or what the column ``group_by`` of the truth says. ``index`` is the address of an index that
    is searched in place of the bundle's own; what is stated then holds with ``geotag --index`` alone. Raises
    ``InputError`` where answered images of fewer than ``MIN_PLACES`` places are known.
    """
    bundle, truth = open_bundle(bundle_ref), read_truth(truth_path, group_by)
    shards = find_index(index, bundle) if index else None
    table = _answers(bundle, list_inputs(inputs, views_by), place)
    ids = Predictions(path=", ".join(inputs), table=table.select(["image_id"]), dataset=None, manifest={},
                      finished=True)  # fmt: skip
    pairs = match(ids, truth)
    latlon, groups = truth.latlon[pairs.truth_rows], groups_of(truth, pairs.truth_rows)
    if groups.count < MIN_PLACES:
        raise InputError(
            f"{len(pairs)} answers have a true place, in {groups.count} places ({groups.described}); radii need at "
            f"least {MIN_PLACES} places"
        )
    columns = {name: _array(table, name) for name in table.column_names if name in (*LOCATED, "image_features")}
    columns = {name: values[pairs.prediction_rows] for name, values in columns.items()}
    parameters = bundle.parameters
    if bundle.kind == "cells":
        searcher = None if shards is None else Sharded([open_source(one) for one in shards.shards], shards.owners)
        parameters, columns = _refined(bundle, columns, latlon, groups, searcher)
    known = known_answers(open_naming(bundle), columns, latlon, groups)
    calibration = dataclasses.replace(fit_calibration(known), index=other_index(shards, bundle))
    provenance = {"calibrated_on": {"images": len(known), "places": groups.count, "grouped_by": groups.described}}
    copy_bundle(
        bundle,
        output,
        parameters,
        {CALIBRATION: json.dumps(dataclasses.asdict(calibration), indent=1) + "\n"},
        provenance,
    )
    return f"{pairs.describe()}; {_summary(known)}; {parameters}"


def _answers(bundle: Bundle, items: list[Input], place: Place) -> pa.Table:
    """What the fitting needs of every image that has no problem: features for cells, else what was located."""
    graph = (embedding_graph if bundle.kind == "cells" else calibration_graph)(bundle, num_views(items))
    blocks = input_blocks(items, rows_per_block(len(items), place))
    answers = apply_graph(fetch_inputs(blocks), graph, fitted(place, blocks, items))
    table = pa.concat_tables(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
    return table.filter(pc.equal(table["problem"], ""))


def _array(table: pa.Table, name: str) -> np.ndarray:
    values = table[name].to_numpy()
    return np.stack(values) if values.dtype == object else values


def _refined(
    bundle: Bundle,
    columns: Mapping[str, np.ndarray],
    latlon: Float64[np.ndarray, "n 2"],
    groups: Groups,
    searcher: Searcher | None,
) -> tuple[Parameters, dict[str, np.ndarray]]:
    """The refinement that suits the images best, and what it locates."""
    images = known_images(bundle, columns["image_features"], latlon, groups.weights, searcher)
    start = bundle.refinement
    best = images.fit(start, images.choices(fitted_fields(start)))
    return best, images.located(best)


def _summary(known: KnownAnswers) -> str:
    """How good the answers are, and how sure the radii are of what they hold."""
    groups, (half, most) = known.groups, cross_fitted(known)
    text = (
        f"median error {weighted_median(known.error_km, groups.weights):,.1f} km by place ({groups.count} places); "
        f"fitted on others of these places, the radii hold {half:.0%} (stated 50 %) and {most:.0%} (90 %) of them"
    )
    if groups.count >= ENOUGH_PLACES:
        return text
    half_range, most_range = (
        f"{low:.0%} to {high:.0%}" for low, high in (coverage_range(groups.count, share) for share in (0.5, 0.9))
    )
    return (
        f"{text}; with fewer than {ENOUGH_PLACES} places that is uncertain: by so many alone the 50 % radius may hold "
        f"{half_range}, the 90 % radius {most_range}"
    )
