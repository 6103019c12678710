"""The answers of the runner in process, as a run would have written them."""

import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.record.ledger import PREDICTIONS
from geo_ray.data.record.output_tables import prediction_table
from geo_ray.data.sources import fetch, input_batches, list_inputs
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local


def write_local_answers(inputs, output, bundle="earth-tiny"):
    """The predictions for the images of a folder, in an output that has nothing else."""
    batches = map(fetch, input_batches(list_inputs([str(inputs)]), 64))
    tables = [prediction_table(answer) for answer in run_local(graph_of(open_bundle(bundle)), batches)]
    (output / PREDICTIONS).mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), output / PREDICTIONS / "local.parquet")
    return output
