"""``geo-ray evaluate`` and ``geo-ray report``."""

import argparse
import json
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import command


def add_evaluate(commands: Any) -> None:
    """Add ``evaluate`` to the parser."""
    parser = command(commands, "evaluate", _evaluate, "compare answers with true places", epilog=(
        "TABLE is CSV or parquet with an id and latitude and longitude under any of their usual names."))  # fmt: skip
    parser.add_argument("predictions", metavar="PREDICTIONS", help="output folder of geotag, or its prediction files")
    parser.add_argument("--truth", required=True, metavar="TABLE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the metrics here too")


def add_report(commands: Any) -> None:
    """Add ``report`` to the parser."""
    parser = command(commands, "report", _report, "draw answers as one HTML page that opens offline", epilog="")
    parser.add_argument("output", metavar="DIR", help="output folder of geotag")
    parser.add_argument("--truth", metavar="TABLE", help="true places (default: DIR/truth.csv where it is there)")
    parser.add_argument("--images", metavar="FOLDER", help="where the images lie now, if they were moved")


def _evaluate(arguments: argparse.Namespace) -> None:
    from geo_ray.evaluation.evaluate import compare, evaluate, format_table, load

    predictions, truth = load(arguments.predictions, arguments.truth)
    metrics = evaluate(predictions, truth)
    print(format_table(metrics, compare(predictions, truth)))
    if arguments.json:
        arguments.json.write_text(json.dumps(metrics, indent=1) + "\n")


def _report(arguments: argparse.Namespace) -> None:
    from geo_ray.evaluation.report import write_report

    print(write_report(arguments.output, arguments.truth, arguments.images))
