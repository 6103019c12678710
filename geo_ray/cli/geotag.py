"""``geo-ray geotag`` and ``geo-ray embed``."""

import argparse
from typing import Any

from geo_ray.cli.arguments import add_address, at_least_one, command
from geo_ray.errors import InputError

MAX_PRINTED = 20  # images that are answered on the terminal, without --output


def add_geotag(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "geotag", _geotag, "find where images were taken", epilog=(
        "examples:\n"
        "  geo-ray geotag photo.jpg                      answer on the terminal\n"
        "  geo-ray geotag photos/ --output out/          a folder, answers as GeoParquet\n"
        "  geo-ray geotag 's3://bucket/2024/*.jpg' --output s3://bucket/places --address auto"))  # fmt: skip
    parser.add_argument(
        "--output", metavar="DIR", help=f"folder or URI for the answers; needed above {MAX_PRINTED} images"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="candidates to report (default: 5)")
    parser.add_argument("--index", metavar="DIR", help=(
        "an index by geo-ray index build, searched on actors (default: the bundle's own, in each worker)"))  # fmt: skip
    parser.add_argument("--index-replicas", type=at_least_one, default=1, metavar="N", help=(
        "actors that hold each shard of --index: with 2, a lost node costs no pause (default: 1)"))  # fmt: skip
    _add_job(parser)


def add_embed(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "embed", _geotag_bulk, "write image features, such as an index is built from", epilog=(
        "example:\n  geo-ray embed photos/ --bundle streetclip/ --output features/\n"
        "features/predictions/*.parquet: image_id, uri, features, problem"))  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="folder or URI for the features")
    parser.set_defaults(features=True, top_k=None, index=None, index_replicas=1)
    _add_job(parser)


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="folder, file, glob pattern or URI; or a table of them"
    )
    parser.add_argument("--bundle", default="earth-tiny", help="name, folder or s3:// prefix (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="complete a run that was cut short, in its --output")
    parser.add_argument("--views-by", metavar="COLUMN", help=(
        "column of a manifest; rows with the same value are views of one item, as of a panorama"))  # fmt: skip
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto", help=(
        "numbers that the encoder computes in (default: auto, what the device is fast in)"))  # fmt: skip
    add_address(parser)
    parser.add_argument(
        "--workers", type=at_least_one, metavar="N", help="actors that hold the model (default: one a GPU or CPU)"
    )
    parser.add_argument("--batch-size", type=at_least_one, default=256, metavar="N", help="images taken at once")
    budget = "exit with 1 when more of the images can't be answered (default: %(default)s)"
    parser.add_argument("--max-problem-share", type=float, default=0.1, metavar="SHARE", help=budget)
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the plan, but do no work")


def _geotag(arguments: argparse.Namespace) -> None:
    from geo_ray.data.answers import answer_texts, bundle_text
    from geo_ray.data.sources import list_inputs
    from geo_ray.models.bundle import open_bundle

    if arguments.output is None and not arguments.dry_run:
        if arguments.index:
            raise InputError("--index needs --output DIR; without it images are answered in this process, without Ray")
        inputs = list_inputs(arguments.inputs, arguments.views_by)
        if len(inputs) > MAX_PRINTED:
            raise InputError(
                f"{len(inputs)} images are too many to print; name a folder for the answers with --output DIR"
            )
        bundle = open_bundle(arguments.bundle)
        for text in answer_texts(inputs, bundle, arguments.top_k, arguments.dtype):
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
        features=getattr(arguments, "features", False),
        views_by=arguments.views_by,
        dtype=arguments.dtype,
        index=arguments.index,
        index_replicas=arguments.index_replicas,
        resume=arguments.resume,
        max_problem_share=arguments.max_problem_share,
    )
    job = prepare(options, dry_run=arguments.dry_run)
    with connected(arguments.address) as resources:
        place = plan(
            resources["CPU"], resources.get("GPU", 0), arguments.workers, arguments.batch_size,
            num_index_shards=job.num_index_shards, num_index_replicas=options.index_replicas,
        )  # fmt: skip
        print(plan_text(job, place), flush=True)
        if not arguments.dry_run:
            print(summary_text(geotag(job, place), arguments.output))
