"""From what the user names to rows: one row an image, ``image_id``, ``uri`` and ``bytes``, or why there are none."""

from geo_ray.data.sources.inputs import (
    SUFFIXES as SUFFIXES,
    Input as Input,
    fetch as fetch,
    input_batches as input_batches,
    input_blocks as input_blocks,
    is_table as is_table,
    list_inputs as list_inputs,
    num_views as num_views,
    read_bytes as read_bytes,
    read_manifest as read_manifest,
    view_uris as view_uris,
)
