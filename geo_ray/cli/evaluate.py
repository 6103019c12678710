"""``geo-ray evaluate`` and ``geo-ray report``."""

import argparse
import json
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import add_address, command
from geo_ray.errors import InputError


def add_evaluate(commands: Any) -> None:
    """Add ``evaluate`` to the parser."""
    parser = command(commands, "evaluate", _evaluate, "compare answers with true places", epilog=(
        "TABLE is CSV or parquet with an id and latitude and longitude under any of their usual names.\n"
        "Photos cluster, so figures are by place too: each block of 0.25 degrees, or each value of a column, has one\n"
        "vote. Intervals are of 1,000 draws of whole places (block bootstrap).\n"
        "examples:\n"
        "  geo-ray evaluate out/ --truth places.csv\n"
        "  geo-ray evaluate out/ --truth places.csv --group-by user_id\n"
        "  geo-ray evaluate new/ old/ --truth places.csv    what differs, and whether the places show it"))  # fmt: skip
    parser.add_argument("predictions", metavar="PREDICTIONS", help="output folder of geotag, or its prediction files")
    parser.add_argument("other", nargs="?", metavar="OTHER", help="those of another run on the same images")
    parser.add_argument("--truth", required=True, metavar="TABLE", help="the images' true places")
    parser.add_argument("--benchmark", metavar="NAME", help=(
        "TABLE is the published file of im2gps, im2gps3k, yfcc4k, yfcc26k, mp16, gws15k, osv5m, pigeon or pitts-ial; "
        "what others report is shown beside"))  # fmt: skip
    parser.add_argument("--areas", action="store_true", help=(
        "also how many answers lie inside the country, region and city of the truth (PIGEON)"))  # fmt: skip
    parser.add_argument("--leaks", metavar="FILE", help=(
        "what geo-ray leaks wrote: figures are given without the images that leak, too"))  # fmt: skip
    parser.add_argument("--earth-radius-km", type=float, metavar="KM", help=(
        "of the distances (default: 6371.0088, the mean; PIGEON's code has 6378.137)"))  # fmt: skip
    parser.add_argument("--addresses", metavar="BUNDLE", help=(
        "also how many addresses are right (SSA, SA), of answers by this bundle of addresses, or its "
        "addresses.parquet; the true ones are TABLE's column address, or else the nearest"))  # fmt: skip
    parser.add_argument("--group-by", metavar="COLUMN", help=(
        "column of TABLE with the place or the user of an image (default: blocks of 0.25 degrees)"))  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the metrics here too")
    add_address(parser)


def add_report(commands: Any) -> None:
    """Add ``report`` to the parser."""
    parser = command(commands, "report", _report, "draw answers as one HTML page that opens offline", epilog=(
        "examples:\n"
        "  geo-ray report out/                             out/report.html\n"
        "  geo-ray report new/ old/ --truth places.csv     comparison.html: what differs, and where"))  # fmt: skip
    parser.add_argument("first", metavar="DIR", help="output folder of geotag")
    parser.add_argument("second", nargs="?", metavar="OTHER", help="that of another run on the same images")
    parser.add_argument("--truth", metavar="TABLE", help="true places (default: DIR/truth.csv where it is there)")
    parser.add_argument("--images", metavar="FOLDER", help="where the images lie now, if they were moved")
    parser.add_argument("--output", type=Path, default=Path("comparison.html"), metavar="FILE", help=(
        "of the comparison of two runs (default: %(default)s)"))  # fmt: skip


def _evaluate(arguments: argparse.Namespace) -> None:
    from geo_ray.data.comparing import compare_run
    from geo_ray.evaluation.benchmarks import benchmark_of
    from geo_ray.evaluation.differences import compare_runs, format_differences
    from geo_ray.evaluation.evaluate import comparison_metrics, evaluate
    from geo_ray.evaluation.leaks import without_leaks
    from geo_ray.evaluation.text import format_published, format_table
    from geo_ray.geo.sphere import EARTH_RADIUS_KM

    if arguments.other is not None and arguments.leaks:
        raise InputError("--leaks is for one run; leave out OTHER, or the option")
    truth, notes = _truth(arguments)
    how = truth, arguments.address, arguments.earth_radius_km or EARTH_RADIUS_KM, arguments.areas
    predictions, comparison = compare_run(arguments.predictions, *how)
    if arguments.other is None:
        metrics = evaluate(predictions, truth, comparison)
        print(format_table(metrics, comparison))
        if arguments.addresses:
            metrics["addresses"] = _addresses(arguments.addresses, predictions, truth, comparison)
        if arguments.leaks:
            clean, said = without_leaks(comparison, arguments.leaks)
            metrics["without_leaks"] = comparison_metrics(clean)
            print(f"\n{said}\n{format_table(metrics['without_leaks'])}")
        if arguments.benchmark:
            print("\n" + format_published(metrics, benchmark_of(arguments.benchmark)))
    else:
        metrics = compare_runs(comparison, compare_run(arguments.other, *how)[1])
        print(format_differences(metrics, arguments.predictions, arguments.other))
    print("".join(f"{note}\n" for note in notes), end="")
    if arguments.json:
        arguments.json.write_text(json.dumps(metrics, indent=1) + "\n")


def _addresses(ref: str, predictions: Any, truth: Any, comparison: Any) -> dict[str, Any]:
    from geo_ray.atlas.addresses import read_addresses
    from geo_ray.evaluation.addresses import address_metrics, address_table, compare_addresses
    from geo_ray.models.bundle import ADDRESSES, open_bundle

    path = Path(ref) if ref.endswith(".parquet") else open_bundle(ref).path(ADDRESSES)
    found = address_metrics(compare_addresses(predictions, truth, comparison, read_addresses(path)))
    print(f"\n{address_table(found)}")
    return found


def _truth(arguments: argparse.Namespace) -> tuple[Any, tuple[str, ...]]:
    """The true places, and what was found odd in their table."""
    from geo_ray.evaluation.benchmarks import read_benchmark
    from geo_ray.evaluation.tables import read_truth

    if arguments.benchmark is None:
        return read_truth(arguments.truth, arguments.group_by), ()
    if arguments.group_by is not None:
        raise InputError("--group-by is the benchmark's own with --benchmark; leave it out")
    found = read_benchmark(arguments.benchmark, arguments.truth)
    return found.truth, found.notes


def _report(arguments: argparse.Namespace) -> None:
    from geo_ray.evaluation.comparison_report import write_comparison_report
    from geo_ray.evaluation.report import write_report

    which = arguments.truth, arguments.images
    if arguments.second is None:
        print(write_report(arguments.first, *which))
    else:
        print(write_comparison_report(arguments.first, arguments.second, *which, arguments.output))
