"""``geo-ray geotag`` and ``geo-ray embed``."""

import argparse
import itertools
from typing import Any

from geo_ray.cli.arguments import add_address, at_least_one, command, range_of, share_of_gpu
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
    parser.add_argument("--exif", choices=["ignore", "skip", "compare"], default="ignore", help=(
        "photos that say where they were taken: answer them without reading that, leave them out with the problem "
        "has_location (whatever looks like a position, in EXIF or XMP), or answer them and add exif_latitude, "
        "exif_longitude and exif_distance_km (default: ignore)"))  # fmt: skip
    parser.add_argument("--index", metavar="DIR", help=(
        "an index by geo-ray index build, searched on actors (default: the bundle's own, in each worker)"))  # fmt: skip
    parser.add_argument("--within", metavar="BUNDLE", help=(
        "for a bundle of addresses: look only for those in the most probable cells by this bundle of cells; an image "
        "in whose cells there is none gets the problem no_address"))  # fmt: skip
    parser.add_argument("--index-replicas", type=at_least_one, default=1, metavar="N", help=(
        "actors that hold each shard of --index: with 2, a lost node costs no pause (default: 1)"))  # fmt: skip
    parser.add_argument("--search", choices=["auto", "cpu", "gpu"], default="auto", help=(
        "where places are searched on a machine with GPUs, with the same answers (default: on a GPU, where what is "
        "searched takes at most 4 GiB of it)"))  # fmt: skip
    parser.add_argument("--min-probability", type=float, metavar="P", help=(
        "answers with a smaller probability get the problem uncertain; they are kept, but exports to photos "
        "leave them out and evaluation counts them as not answered (default: none)"))  # fmt: skip
    parser.add_argument("--max-radius-km", type=float, metavar="KM", help=(
        "the same for answers whose radius_km_90 is larger, or not known"))  # fmt: skip
    _add_job(parser)


def add_embed(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "embed", _geotag_bulk, "write image features, such as an index is built from", epilog=(
        "example:\n  geo-ray embed photos/ --bundle streetclip/ --output features/\n"
        "features/predictions/*.parquet: image_id, uri, features, problem"))  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="folder or URI for the features")
    parser.add_argument("--hashes", action="store_true", help=(
        "write perceptual hashes too (phash, 64 bits), by which geo-ray leaks finds near-duplicates"))  # fmt: skip
    parser.set_defaults(
        features=True, top_k=None, within=None, index=None, index_replicas=1, exif="ignore", search="auto",
        min_probability=None, max_radius_km=None,
    )  # fmt: skip
    _add_job(parser)


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="folder, file, glob pattern or URI: images, tars, zips, parquet, msgpack, or a table of them",
    )
    parser.add_argument("--bundle", default="earth-tiny", help="name, folder or s3:// prefix (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="complete a run that was cut short, in its --output")
    parser.add_argument("--views-by", metavar="COLUMN", help=(
        "column of a manifest; rows with the same value are views of one item, as of a panorama"))  # fmt: skip
    _add_sources(parser)
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto", help=(
        "numbers that the encoder computes in (default: auto, what the device is fast in)"))  # fmt: skip
    parser.add_argument("--max-pixels", type=at_least_one, metavar="N", help=(
        "pixels of an image that may be held in memory, at 4 bytes each; larger ones get the problem too_large. A JPEG "
        "that is scaled while decoding may have 10 times as many (default: the bundle's, 100 million)"))  # fmt: skip
    parser.add_argument("--micro-batch", type=at_least_one, metavar="N", help=(
        "images that the encoder sees at once, the same for all of a run, as the last digits of features depend on it "
        "(default: the bundle's on a CPU; on a GPU what is fast there, measured by the first worker)"))  # fmt: skip
    parser.add_argument("--decode", choices=["auto", "cpu", "gpu"], default="auto", help=(
        "where images are decoded: on CPUs, or JPEG by the GPU's own decoder, which changes pixels a little (default: "
        "gpu where A100, A30, H100 or later have fewer than 8 CPUs each, and for a run begun so)"))  # fmt: skip
    add_address(parser)
    parser.add_argument("--workers", type=range_of, default=(None, None), metavar="N|MIN-MAX", help=(
        "actors that hold the model; a range grows with the work, where the cluster has room or adds nodes "
        "(default: one a GPU or CPU)"))  # fmt: skip
    parser.add_argument("--worker-memory", type=float, metavar="GIB", help=(
        "memory that Ray sets aside for each worker (default: by the size of the bundle)"))  # fmt: skip
    parser.add_argument("--gpus-per-worker", type=share_of_gpu, default=1.0, metavar="SHARE", help=(
        "0.5: two workers on each GPU (default: 1)"))  # fmt: skip
    parser.add_argument("--batch-size", type=at_least_one, default=256, metavar="N", help="images taken at once")
    budget = "exit with 1 when more of the images can't be answered (default: %(default)s)"
    parser.add_argument("--max-problem-share", type=float, default=0.1, metavar="SHARE", help=budget)
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the plan, but do no work")


def _add_sources(parser: argparse.ArgumentParser) -> None:
    tables = parser.add_argument_group("tables of images, and URLs")
    tables.add_argument("--image-column", metavar="COLUMN", help="paths, URLs or bytes (default: by the usual names)")
    tables.add_argument("--id-column", metavar="COLUMN", help="ids of the rows (default: by the usual names)")
    tables.add_argument("--image-folder", metavar="DIR", help="where the table's paths start (default: its own folder)")
    tables.add_argument("--allow-root", metavar="DIR", help=(
        "the folder that local files named by a table must lie below (default: --image-folder)"))  # fmt: skip
    tables.add_argument("--allow-private", action="store_true", help="fetch URLs of private networks too")
    tables.add_argument("--connections-per-host", type=at_least_one, default=4, metavar="N", help=(
        "requests to one server at a time, of each reading task (default: %(default)s)"))  # fmt: skip
    tables.add_argument("--delay-per-host", type=float, default=0.0, metavar="SECONDS", help=(
        "from the start of one request to a server to that of the next (default: none)"))  # fmt: skip


def _geotag(arguments: argparse.Namespace) -> None:
    if arguments.output is None and not arguments.dry_run:
        _print_answers(arguments)
    else:
        _geotag_bulk(arguments)


def _print_answers(arguments: argparse.Namespace) -> None:
    from geo_ray.data.sources import open_sources
    from geo_ray.data.terminal import answer_texts, bundle_text
    from geo_ray.models.bundle import open_bundle
    from geo_ray.pipeline.graph import graph_of

    if arguments.index:
        raise InputError("--index needs --output DIR; without it images are answered in this process, without Ray")
    sources = open_sources(arguments.inputs, _source_options(arguments))
    rows = itertools.chain.from_iterable(shard.rows() for shard in sources.shards())
    few = list(itertools.islice(rows, MAX_PRINTED + 1))
    if len(few) > MAX_PRINTED:
        raise InputError(f"more than {MAX_PRINTED} images are too many to print; name a folder with --output DIR")
    bundle = open_bundle(arguments.bundle)
    graph = graph_of(
        bundle, arguments.top_k, sources.num_views, arguments.dtype, arguments.exif, arguments.max_pixels,
        min_probability=arguments.min_probability, max_radius_km=arguments.max_radius_km, within=arguments.within,
    )  # fmt: skip
    for text in answer_texts(few, graph, sources.num_views):
        print(text, flush=True)
    print(bundle_text(bundle))


def _source_options(arguments: argparse.Namespace) -> Any:
    from geo_ray.data.fetch.policy import FetchPolicy
    from geo_ray.data.sources import SourceOptions

    policy = FetchPolicy(
        allow_private=arguments.allow_private,
        connections_per_host=arguments.connections_per_host,
        delay_per_host_s=arguments.delay_per_host,
    )
    return SourceOptions(
        views_by=arguments.views_by,
        image_column=arguments.image_column,
        id_column=arguments.id_column,
        image_folder=arguments.image_folder,
        allowed_root=arguments.allow_root,
        fetch=policy,
    )


def _geotag_bulk(arguments: argparse.Namespace) -> None:
    from geo_ray.data.run.block_reader import MAX_PIXEL_BYTES
    from geo_ray.data.run.plan import dry_run_text, plan_text, with_decoding, with_search, worker_memory
    from geo_ray.data.run.preparation import GeotagOptions, prepare
    from geo_ray.remote.place import plan
    from geo_ray.remote.runtime import connected

    options = GeotagOptions(
        inputs=tuple(arguments.inputs),
        output=arguments.output or "",
        bundle=arguments.bundle,
        top_k=arguments.top_k,
        sources=_source_options(arguments),
        index=arguments.index,
        index_replicas=arguments.index_replicas,
        features=getattr(arguments, "features", False),
        hashes=getattr(arguments, "hashes", False),
        dtype=arguments.dtype,
        exif=arguments.exif,
        max_pixels=arguments.max_pixels,
        micro_batch=arguments.micro_batch,
        search=arguments.search,
        decode=arguments.decode,
        min_probability=arguments.min_probability,
        max_radius_km=arguments.max_radius_km,
        within=arguments.within,
        resume=arguments.resume,
        max_problem_share=arguments.max_problem_share,
    )
    job = prepare(options, dry_run=arguments.dry_run)
    num_workers, max_workers = arguments.workers
    asked = arguments.worker_memory
    with connected(arguments.address, block_bytes=MAX_PIXEL_BYTES, module="geo_ray.data.run.job") as resources:
        from geo_ray.data.run.job import geotag, summary_text

        place = plan(
            resources["CPU"], resources.get("GPU", 0), num_workers, arguments.batch_size, max_workers=max_workers,
            memory=resources["memory"], memory_per_worker=worker_memory(job) if asked is None else int(asked * 2**30),
            gpus_per_worker=arguments.gpus_per_worker, num_index_shards=job.num_index_shards,
            num_index_replicas=options.index_replicas,
        )  # fmt: skip
        place = with_search(with_decoding(place, options, job.bundle, resources), options, job.bundle)
        if arguments.dry_run:
            print(dry_run_text(job, place, resources["CPU"]))
            return
        print(plan_text(job, place), flush=True)
        print(summary_text(geotag(job, place), arguments.output))
