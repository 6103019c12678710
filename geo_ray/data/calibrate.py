"""Fitting a bundle's radii on images whose places are known."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from geo_ray.data.apply import apply_graph, fetch_inputs
from geo_ray.data.geotag import fitted, rows_per_block
from geo_ray.data.sources import input_blocks, list_inputs, num_views
from geo_ray.errors import InputError
from geo_ray.evaluation.calibration import fit_radius
from geo_ray.evaluation.matching import match
from geo_ray.evaluation.tables import Predictions, read_truth
from geo_ray.geo.calibration import RadiusCalibration
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models.bundle import CALIBRATION, open_bundle
from geo_ray.models.zero_shot import copy_bundle
from geo_ray.pipeline.graph import calibration_graph
from geo_ray.remote.place import Place

MIN_ANSWERS = 50  # below it a radius of 90 % is one image's error
ANSWERS_PER_BIN = 50
MAX_BINS = 20


def calibrate(bundle_ref: str, inputs: tuple[str, ...], truth_path: str, output: Path, place: Place) -> str:
    """Write a copy of a bundle whose radii are fitted on these images, on the connected Ray; returns a sentence on it.

    The images should be like those to be answered, and none that the model was trained on. Raises ``InputError`` where
    fewer than ``MIN_ANSWERS`` of them are answered and have a true place.
    """
    bundle, truth = open_bundle(bundle_ref), read_truth(truth_path)
    items = list_inputs(inputs)
    graph = calibration_graph(bundle, num_views(items))
    blocks = input_blocks(items, rows_per_block(len(items), place))
    answers = apply_graph(fetch_inputs(blocks), graph, fitted(place, blocks, items))
    table = pa.concat_tables(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
    table = table.filter(pa.compute.equal(table["problem"], ""))
    predictions = Predictions(path=", ".join(inputs), table=table.select(["image_id"]), dataset=None, manifest={},
                              finished=True)  # fmt: skip
    pairs = match(predictions, truth)
    if len(pairs) < MIN_ANSWERS:
        raise InputError(f"{len(pairs)} answers have a true place; radii need at least {MIN_ANSWERS}")
    latlon = np.stack(table["latlon"].to_numpy())[pairs.prediction_rows]
    errors = great_circle_km(latlon, truth.latlon[pairs.truth_rows])
    num_bins = min(MAX_BINS, len(pairs) // ANSWERS_PER_BIN)
    calibration = fit_radius(table["spread_km"].to_numpy()[pairs.prediction_rows], errors, num_bins)
    copy_bundle(bundle, output, {CALIBRATION: _text(calibration)}, {"calibrated_on": len(pairs)})
    return f"{pairs.describe()}; median error {np.median(errors):,.1f} km"


def _text(calibration: RadiusCalibration) -> str:
    return json.dumps(dataclasses.asdict(calibration), indent=1) + "\n"
