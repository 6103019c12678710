"""What a training table holds: a row an image, with where it is, what is known of the place, and which split it is in.

The files lie in ``split=train/``, ``split=validation/`` and so on, in parquet, their rows in random order, so that what
is read one after the other is a fair sample. What isn't known is null, never 0.
"""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("bytes", pa.large_binary()),  # the image's file, or null where it is read from ``uri``
        ("problem", pa.string()),  # why the image can't be trained on, or empty
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("split", pa.string()),
        ("group", pa.string()),  # author or sequence: all its images are in one split
        ("place", pa.string()),  # images with the same are views of one location
        ("view", pa.int64()),  # number of the view, from 0
        ("country", pa.string()),  # ISO 3166 alpha-2
        ("region", pa.string()),
        ("town", pa.string()),
        ("climate", pa.int64()),  # number in ``atlas.climate.ZONES``
        ("drive_side", pa.string()),  # left or right
        ("elevation_m", pa.float64()),
        ("temperature", pa.float64()),  # annual mean, degrees Celsius
        ("temperature_range", pa.float64()),  # of the months' means
        ("precipitation", pa.float64()),
        ("precipitation_range", pa.float64()),
        ("population", pa.float64()),  # people about the place, by the source that was named
        ("month", pa.int64()),  # from 1
        ("heading", pa.float64()),  # degrees from north in which the first view looks
        ("address", pa.string()),  # a sub-street in words
        ("caption", pa.string()),  # what the image shows, in words
    ]
)
ADDRESSES = "_addresses.parquet"  # of the images, where they have any
MANIFEST = "_table.json"  # pyarrow takes no file for data whose name begins so
SPLITS = ("train", "validation", "test")
LEFT_OUT = ("near_benchmark", "buffer", "same_group", "no_place", "no_address", "problem")
