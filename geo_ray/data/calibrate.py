"""Fitting a bundle's refinement and radii on images whose places are known."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from geo_ray.data.runner import apply_graph, fetch_inputs, fitted, rows_per_block
from geo_ray.data.sources import Input, input_blocks, list_inputs, num_views
from geo_ray.errors import InputError
from geo_ray.evaluation.calibration import fit_radius
from geo_ray.evaluation.matching import match
from geo_ray.evaluation.refinement import CHOICES, fitted_fields, known_images
from geo_ray.evaluation.tables import Predictions, read_truth
from geo_ray.geo.calibration import RadiusCalibration
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.bundle import CALIBRATION, Bundle, Parameters, open_bundle
from geo_ray.models.bundle_writing import copy_bundle
from geo_ray.pipeline.graph import calibration_graph, embedding_graph
from geo_ray.remote.place import Place

MIN_ANSWERS = 50  # below it a radius of 90 % is one image's error
ANSWERS_PER_BIN = 50
MAX_BINS = 20

Fitted = tuple[Parameters, Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]  # parameters, spreads and errors in km


def calibrate(
    bundle_ref: str, inputs: tuple[str, ...], truth_path: str, output: Path, place: Place, views_by: str | None = None
) -> str:
    """Write a copy of a bundle that is fitted to these images, on the connected Ray; returns a sentence on it.

    Fitted are the radii, and of a bundle of cells the refinement before them. The images should be like those to be
    answered, and none that the model was trained on. Raises ``InputError`` where fewer than ``MIN_ANSWERS`` of them are
    answered and have a true place.
    """
    bundle, truth = open_bundle(bundle_ref), read_truth(truth_path)
    table = _answers(bundle, list_inputs(inputs, views_by), place)
    ids = Predictions(path=", ".join(inputs), table=table.select(["image_id"]), dataset=None, manifest={},
                      finished=True)  # fmt: skip
    pairs = match(ids, truth)
    if len(pairs) < MIN_ANSWERS:
        raise InputError(f"{len(pairs)} answers have a true place; radii need at least {MIN_ANSWERS}")
    fit = _fit_cells if bundle.kind == "cells" else _fit_others
    parameters, spreads, errors = fit(bundle, table.take(pairs.prediction_rows), truth.latlon[pairs.truth_rows])
    calibration = fit_radius(spreads, errors, min(MAX_BINS, len(pairs) // ANSWERS_PER_BIN))
    copy_bundle(bundle, output, parameters, {CALIBRATION: _text(calibration)}, {"calibrated_on": len(pairs)})
    return f"{pairs.describe()}; median error {np.median(errors):,.1f} km; {parameters}"


def _answers(bundle: Bundle, items: list[Input], place: Place) -> pa.Table:
    """What the fitting needs of every image that has no problem: features for cells, else the answer and its spread."""
    graph = (embedding_graph if bundle.kind == "cells" else calibration_graph)(bundle, num_views(items))
    blocks = input_blocks(items, rows_per_block(len(items), place))
    answers = apply_graph(fetch_inputs(blocks), graph, fitted(place, blocks, items))
    table = pa.concat_tables(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
    return table.filter(pc.equal(table["problem"], ""))


def _fit_cells(bundle: Bundle, table: pa.Table, latlon: Float64[np.ndarray, "n 2"]) -> Fitted:
    images = known_images(bundle, np.stack(table["image_features"].to_numpy()), latlon)
    start = bundle.refinement
    best = images.fit(start, {name: CHOICES[name] for name in fitted_fields(start)})
    refined = images.answer(best)
    return best, refined.spread_km, great_circle_km(refined.latlon, latlon)


def _fit_others(bundle: Bundle, table: pa.Table, latlon: Float64[np.ndarray, "n 2"]) -> Fitted:
    answers = np.stack(table["latlon"].to_numpy())
    return bundle.parameters, table["spread_km"].to_numpy(), great_circle_km(answers, latlon)


def _text(calibration: RadiusCalibration) -> str:
    return json.dumps(dataclasses.asdict(calibration), indent=1) + "\n"
