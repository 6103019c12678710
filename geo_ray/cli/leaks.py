"""``geo-ray leaks``."""

import argparse
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import command


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "leaks", _leaks, "find test images that training data give away", epilog=(
        "A test image leaks where it was taken near one of training, by the same author or in the same sequence, or\n"
        "where it is nearly the same picture.\n"
        "example:\n"
        "  geo-ray embed test/ --bundle mine/ --hashes --output test-features/\n"
        "  geo-ray embed train/ --bundle mine/ --hashes --output train-features/\n"
        "  geo-ray leaks test.csv --train train.csv --features test-features/ --train-features train-features/\n"
        "  geo-ray evaluate answers/ --truth test.csv --leaks leaks.parquet       with and without them"))  # fmt: skip
    parser.add_argument("test", metavar="TEST", help="table of the test images' ids and places")
    parser.add_argument("--train", required=True, metavar="TABLE|INDEX", help="the same of training, or an index")
    parser.add_argument("--features", metavar="DIR", help="output of geo-ray embed for the test images")
    parser.add_argument("--train-features", metavar="DIR", help="output of geo-ray embed for those of training")
    parser.add_argument("--group-by", metavar="COLUMN", help="column of both tables: author, user or sequence")
    parser.add_argument("--within-km", type=float, default=0.1, metavar="KM", help="(default: %(default)s)")
    parser.add_argument("--max-bits", type=int, default=12, metavar="N", help=(
        "of 64 that near-duplicates' hashes differ in (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--max-distance", type=float, default=0.4, metavar="D", help=(
        "and how far apart their features are, at length one (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--max-bits-alone", type=int, default=8, metavar="N", help=(
        "bits where there are no features (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--max-distance-alone", type=float, default=0.25, metavar="D", help=(
        "distance where there are no hashes; it depends on the encoder (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("leaks.parquet"), metavar="FILE", help=(
        "a row a test image: leak, reasons, nearest_train_km, duplicate_of (default: %(default)s)"))  # fmt: skip


def _leaks(arguments: argparse.Namespace) -> None:
    from geo_ray.data.leak_search import search_leaks
    from geo_ray.evaluation.leaks import LeakRules

    rules = LeakRules(
        within_km=arguments.within_km,
        max_bits=arguments.max_bits,
        max_distance=arguments.max_distance,
        max_bits_alone=arguments.max_bits_alone,
        max_distance_alone=arguments.max_distance_alone,
    )
    sides = arguments.features, arguments.train_features, arguments.group_by
    print(search_leaks(arguments.test, arguments.train, arguments.output, rules, *sides))
