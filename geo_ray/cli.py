"""``geo-ray``: arguments only; what the commands do is in the modules they call."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from geo_ray.errors import GeoRayError, InputError, PartitionError

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
    for add in (_add_geotag, _add_evaluate, _add_report, _add_bundle, _add_cells, _add_train, _add_serve):
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


def _add_cells(commands: Any) -> None:
    parser = _command(commands, "cells", _cells_show, "build geocells from places, and look at them", epilog="")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_cells_build(actions)
    show = _command(actions, "show", _cells_show, "say how many cells there are, and of what size", epilog="")
    check = _command(actions, "check", _cells_check, "check what cells promise; exit with 1 where it doesn't hold",
                     epilog="")  # fmt: skip
    check.add_argument("--points", metavar="TABLE", help="the places that it was built from, to count them again")
    _add_boundaries(check)
    plot = _command(actions, "plot", _cells_plot, "draw a map of the world and a part of it", epilog="")
    plot.add_argument("--output", type=Path, default=Path("cells.png"), metavar="FILE",
                      help=".png, or .html for a page that opens offline (default: %(default)s)")  # fmt: skip
    plot.add_argument("--zoom", default="europe", metavar="WHERE",
                      help="europe, an ISO code, or =west,south,east,north (default: %(default)s)")  # fmt: skip
    for action in (show, check, plot):
        action.add_argument("cells", type=Path, metavar="FILE", help="cells as GeoParquet")


def _add_cells_build(actions: Any) -> None:
    build = _command(actions, "build", _cells_build, "build geocells from the places of training images", epilog=(
        "example:\n"
        "  geo-ray cells build --points places.csv --output cells.parquet\n"
        "  geo-ray cells plot cells.parquet --zoom FR\n"
        "TABLE is CSV or parquet with latitude and longitude under any of their usual names."))  # fmt: skip
    build.add_argument("--points", required=True, metavar="TABLE", help="places of training images")
    build.add_argument("--output", required=True, type=Path, metavar="FILE", help="where the cells go, as GeoParquet")
    build.add_argument("--kind", choices=["semantic", "rectangles", "s2"], default="semantic", help=(
        "areas fused and split, balanced rectangles, or S2 cells by count (default: %(default)s)"))  # fmt: skip
    build.add_argument("--parameters", choices=["pigeon", "pigeotto"], default="pigeon", help=(
        "sizes and OPTICS schedule: 30 to 60 places a cell, or 1000 to 2000 (default: %(default)s)"))  # fmt: skip
    build.add_argument("--min-size", type=int, metavar="N", help="places that a cell has at least")
    build.add_argument("--max-size", type=int, metavar="N", help="places that a cell has at most")
    build.add_argument("--seed", type=int, default=330, help="of the order in which areas fuse (default: %(default)s)")
    _add_boundaries(build)
    _add_address(build)


def _add_boundaries(parser: argparse.ArgumentParser) -> None:
    text = "one's own areas: GADM, geoBoundaries, GeoJSON, GeoPackage (default: those that ship)"
    parser.add_argument("--boundaries", type=Path, metavar="FILE", help=text)
    parser.add_argument("--layer", metavar="NAME", help="the layer to read of --boundaries, where there are several")
    text = "areas of admin 1, where those of --boundaries don't say in which they are, as geoBoundaries' admin 2"
    parser.add_argument("--admin-1", type=Path, metavar="FILE", help=text)


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


def _cells_build(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.describe import describe
    from geo_ray.cells.rectangles import build_rectangles
    from geo_ray.cells.s2 import build_s2
    from geo_ray.cells.semantic import with_sizes
    from geo_ray.cells.store import write_partition
    from geo_ray.evaluation.tables import read_points
    from geo_ray.remote.cell_tasks import build_with_progress
    from geo_ray.remote.runtime import connected

    _check_boundaries(arguments)
    latlon = read_points(arguments.points)
    semantic = with_sizes(arguments.parameters, arguments.min_size, arguments.max_size, arguments.seed)
    if arguments.kind == "rectangles":
        partition = build_rectangles(latlon, semantic.sizes)
    elif arguments.kind == "s2":
        partition = build_s2(latlon, semantic.sizes)
    else:
        boundaries = _boundaries(arguments)
        with connected(arguments.address):
            partition = build_with_progress(boundaries, latlon, semantic)
    write_partition(partition, arguments.output)
    print(describe(partition))


def _check_boundaries(arguments: argparse.Namespace) -> None:
    path = arguments.boundaries
    described = arguments.layer is not None or arguments.admin_1 is not None
    if described and path is None:
        raise InputError("--layer and --admin-1 say how to read a file of areas; name it with --boundaries FILE")
    if described and path.suffix == ".parquet":
        raise InputError(f"{path} is GeoParquet, which has all its levels; leave out --layer and --admin-1")


def _boundaries(arguments: argparse.Namespace) -> Any:
    from geo_ray.atlas.boundaries import boundaries
    from geo_ray.atlas.boundary_files import load_boundaries

    if arguments.boundaries is None:
        return boundaries()
    return load_boundaries(arguments.boundaries, layer=arguments.layer, admin_1_path=arguments.admin_1)


def _cells_show(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.describe import describe
    from geo_ray.cells.store import read_partition

    print(describe(read_partition(arguments.cells)))


def _cells_check(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.check import check_partition
    from geo_ray.cells.store import read_partition
    from geo_ray.evaluation.tables import read_points

    _check_boundaries(arguments)
    partition = read_partition(arguments.cells)
    latlon = None if arguments.points is None else read_points(arguments.points)
    broken = 0
    for finding in check_partition(partition, boundaries=_boundaries(arguments), latlon=latlon):
        print(f"{'ok    ' if finding.kept else 'BROKEN'}  {finding.promise}: {finding.detail}", flush=True)
        broken += not finding.kept
    if broken:
        raise PartitionError(f"{arguments.cells} breaks {broken} promises; build it again with `geo-ray cells build`")


def _cells_plot(arguments: argparse.Namespace) -> None:
    from geo_ray.cells.store import read_partition
    from geo_ray.evaluation.cell_map import draw_cells, write_cells_page

    draw = write_cells_page if arguments.output.suffix == ".html" else draw_cells
    draw(read_partition(arguments.cells), arguments.output, zoom=arguments.zoom)
    print(arguments.output)


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
