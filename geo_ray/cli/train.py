"""``geo-ray train``."""

import argparse
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import add_address, at_least_one, command, range_of


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "train", _train, "train by a recipe", epilog=(
        "recipes:\n"
        "  smoke             every step, small: embedded crops to a bundle; 2 CPU cores, 2 minutes\n"
        "  earth-tiny        the bundle that ships; 2 CPU cores, 25 minutes\n"
        "  earth-captions    a small zero-shot CLIP on the embedded crops; 2 CPU cores, 12 minutes\n"
        "  streetclip        CLIP on captions of town, region and country\n"
        "  pigeon-clip, pigeotto-clip    CLIP on the papers' captions, drawn anew each time\n"
        "  addressclip       CLIP on a table with addresses, to a bundle that finds them\n"
        "  street-tiny       the same, small, on map tiles of a city's streets; 2 CPU cores, 20 minutes\n"
        "  pigeon, pigeotto  a table to a bundle of geocells: embed, cells, head, index, calibrate\n"
        "A run that ended goes on with the same command; a finished one is left as it is.\n"
        "examples:\n"
        "  geo-ray train smoke --output smoke/\n"
        "  geo-ray table photos/ --truth places.csv --output table/\n"
        "  geo-ray train pigeotto-clip --table table/ --num-workers 2-8 --output clip/ --dry-run\n"
        "  geo-ray train pigeotto --table table/ --set checkpoint=clip/model --output mine/"))  # fmt: skip
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--table", default="", metavar="DIR", help="training table, as geo-ray table builds it")
    parser.add_argument("--output", required=True, metavar="DIR", help=(
        "a folder that all nodes reach: logs, checkpoints, DIR/bundle"))  # fmt: skip
    parser.add_argument("--storage", default="", metavar="URI", help=(
        "keep the checkpoints of a table's training there: a folder, or a prefix as s3://..."))  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="changes", help=(
        "change a setting, as learning_rate=1e-5 or head.batch_size=512; may be repeated"))  # fmt: skip
    parser.add_argument("--num-workers", type=range_of, default=(1, None), metavar="MIN[-MAX]", help=(
        "each with a GPU where there are any; with MAX as many as there is room for (default: 1)"))  # fmt: skip
    parser.add_argument("--threads-per-worker", type=at_least_one, default=2, metavar="N", help=(
        "CPUs of a worker (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--max-failures", type=int, default=3, metavar="N", help=(
        "workers or nodes that may be lost; it goes on from the last checkpoint (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help=(
        "say what would be done: data, parameters, memory, steps, hours, and what the cluster lacks"))  # fmt: skip
    parser.add_argument("--tensorboard", default="", metavar="DIR", help="write the figures for TensorBoard too")
    parser.add_argument("--mlflow", default="", metavar="EXPERIMENT", help="log them to MLflow too")
    add_address(parser)


def _train(arguments: argparse.Namespace) -> None:
    from geo_ray.errors import InputError
    from geo_ray.recipes import configured, run_recipe
    from geo_ray.recipes.plan import plan_text
    from geo_ray.remote.runtime import connected
    from geo_ray.train.chain import Place
    from geo_ray.train.config import Scale
    from geo_ray.train.progress import Watching

    if "://" in arguments.output:
        raise InputError(f"--output {arguments.output} is no folder; name one, and the prefix with --storage")
    least, most = arguments.num_workers
    place = Place(
        table=arguments.table,
        scale=Scale(
            num_workers=least,
            max_workers=most or 0,
            threads_per_worker=arguments.threads_per_worker,
            max_failures=arguments.max_failures,
        ),
        storage=arguments.storage,
        watching=Watching(tensorboard=arguments.tensorboard, mlflow=arguments.mlflow),
    )
    config = configured(arguments.recipe, arguments.changes, arguments.table)
    with connected(arguments.address, module="ray.train"):
        if arguments.dry_run:
            print(plan_text(arguments.recipe, config, place))
            return
        print(f"bundle: {run_recipe(arguments.recipe, Path(arguments.output), place, arguments.changes)}")
