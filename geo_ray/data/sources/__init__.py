"""From what the user names to rows: one row an image, ``image_id``, ``uri`` and ``bytes``, or why there are none."""

from geo_ray.data.sources.inputs import fetch, input_batches, input_blocks, list_inputs, num_views, view_uris
from geo_ray.data.sources.manifests import is_table, read_manifest
from geo_ray.data.sources.opening import Source, Sources, open_sources
from geo_ray.data.sources.options import SourceOptions
from geo_ray.data.sources.reading import read_bytes
from geo_ray.data.sources.rows import Input, Row, Shard, batches
from geo_ray.tables.ids import SUFFIXES

__all__ = [
    "SUFFIXES",
    "Input",
    "Row",
    "Shard",
    "Source",
    "SourceOptions",
    "Sources",
    "batches",
    "fetch",
    "input_batches",
    "input_blocks",
    "is_table",
    "list_inputs",
    "num_views",
    "open_sources",
    "read_bytes",
    "read_manifest",
    "view_uris",
]
