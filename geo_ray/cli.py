"""``geo-ray``: arguments only; what the commands do is in the modules they call."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from geo_ray.errors import GeoRayError, InputError

MAX_PRINTED = 20  # images that are answered on the terminal, without --output


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a job whose rows failed, 2 for what could not be started."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except GeoRayError as error:
        print(f"geo-ray {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="geo-ray", description="Where in the world was this photo taken?")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_geotag, _add_evaluate, _add_report, _add_bundle, _add_train, _add_serve):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: Any, help_text: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    where = "Ray to run on: local, auto or HOST:PORT (default: auto, the cluster of RAY_ADDRESS, or else this machine)"
    parser.add_argument("--address", default="auto", help=where)


def _add_geotag(commands: Any) -> None:
    parser = _command(commands, "geotag", _geotag, "find where images were taken", epilog=(
        "examples:\n"
        "  geo-ray geotag photo.jpg                      answer on the terminal\n"
        "  geo-ray geotag photos/ --output out/          a folder, answers as GeoParquet\n"
        "  geo-ray geotag 's3://bucket/2024/*.jpg' --output s3://bucket/places --address auto"))  # fmt: skip
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="folder, file, glob pattern or URI")
    parser.add_argument("--bundle", default="earth-tiny", help="name, folder or s3:// prefix (default: %(default)s)")
    parser.add_argument(
        "--output", metavar="DIR", help=f"folder or URI for the answers; needed above {MAX_PRINTED} images"
    )
    parser.add_argument("--resume", action="store_true", help="complete a run that was cut short, in its --output")
    parser.add_argument("--top-k", type=int, metavar="K", help="candidates to report (default: 5)")
    _add_address(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N", help="actors that hold the model (default: one a GPU or CPU)"
    )
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="images an actor takes at once")
    budget = "exit with 1 when more of the images can't be answered (default: %(default)s)"
    parser.add_argument("--max-problem-share", type=float, default=0.1, metavar="SHARE", help=budget)
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the plan, but do no work")


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", _evaluate, "compare answers with true places", epilog=(
        "TABLE is CSV or parquet with an id and latitude and longitude under any of their usual names."))  # fmt: skip
    parser.add_argument("predictions", metavar="PREDICTIONS", help="output folder of geotag, or its prediction files")
    parser.add_argument("--truth", required=True, metavar="TABLE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the metrics here too")


def _add_report(commands: Any) -> None:
    parser = _command(commands, "report", _report, "draw answers as one HTML page that opens offline", epilog="")
    parser.add_argument("output", metavar="DIR", help="output folder of geotag")
    parser.add_argument("--truth", metavar="TABLE", help="true places (default: DIR/truth.csv where it is there)")
    parser.add_argument("--images", metavar="FOLDER", help="where the images lie now, if they were moved")


def _add_bundle(commands: Any) -> None:
    parser = _command(commands, "bundle", _bundle, "list the bundles that ship, or show one", epilog="")
    parser.add_argument("action", choices=["list", "show"])
    parser.add_argument("bundle", nargs="?", help="name, folder or s3:// prefix")


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "train a bundle by a recipe", epilog="recipes: earth-tiny")
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="checkpoints, logs and DIR/bundle")
    _add_address(parser)


def _add_serve(commands: Any) -> None:
    parser = _command(commands, "serve", _serve, "answer over HTTP", epilog=(
        "example:\n  geo-ray serve &\n  curl -F image=@photo.jpg http://127.0.0.1:8000/v1/locate"))  # fmt: skip
    parser.add_argument("--bundle", default="earth-tiny", help="as for geotag (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    _add_address(parser)


def _geotag(arguments: argparse.Namespace) -> None:
    from geo_ray.data.answers import answer_texts, bundle_text
    from geo_ray.data.sources import list_inputs
    from geo_ray.models.bundle import open_bundle

    if arguments.output is None and not arguments.dry_run:
        inputs = list_inputs(arguments.inputs)
        if len(inputs) > MAX_PRINTED:
            raise InputError(
                f"{len(inputs)} images are too many to print; name a folder for the answers with --output DIR"
            )
        bundle = open_bundle(arguments.bundle)
        for text in answer_texts(inputs, bundle, arguments.top_k):
            print(text, flush=True)
        print(bundle_text(bundle))
    else:
        _geotag_bulk(arguments)


def _geotag_bulk(arguments: argparse.Namespace) -> None:
    from geo_ray.data.geotag import GeotagOptions, geotag, plan_text, prepare, summary_text
    from geo_ray.remote.place import plan
    from geo_ray.remote.runtime import connected

    options = GeotagOptions(
        inputs=tuple(arguments.inputs),
        output=arguments.output or "",
        bundle=arguments.bundle,
        top_k=arguments.top_k,
        resume=arguments.resume,
        max_problem_share=arguments.max_problem_share,
    )
    job = prepare(options, dry_run=arguments.dry_run)
    with connected(arguments.address) as resources:
        place = plan(resources["CPU"], resources.get("GPU", 0), arguments.workers, arguments.batch_size)
        print(plan_text(job, place), flush=True)
        if not arguments.dry_run:
            print(summary_text(geotag(job, place), arguments.output))


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


def _bundle(arguments: argparse.Namespace) -> None:
    from geo_ray.models.bundle import open_bundle, shipped_bundles

    if arguments.action == "list":
        for name in shipped_bundles():
            print(f"{name}: {open_bundle(name).description}")
    elif arguments.bundle is None:
        raise InputError("which bundle? name one of `geo-ray bundle list`, a folder or an s3:// prefix")
    else:
        print(json.dumps(open_bundle(arguments.bundle).summary(), indent=1))


def _train(arguments: argparse.Namespace) -> None:
    from geo_ray.recipes import find_recipe, run_recipe
    from geo_ray.remote.runtime import connected

    find_recipe(arguments.recipe)
    with connected(arguments.address):
        print(f"bundle: {run_recipe(arguments.recipe, arguments.output)}")


def _serve(arguments: argparse.Namespace) -> None:
    from geo_ray.models.bundle import open_bundle
    from geo_ray.remote.runtime import connected
    from geo_ray.serve.app import serve_forever

    open_bundle(arguments.bundle)
    with connected(arguments.address):
        serve_forever(arguments.bundle, host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    sys.exit(main())
