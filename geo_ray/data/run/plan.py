"""What a bulk run will do, in words, before it does."""

import time
from dataclasses import dataclass, replace

import numpy as np

from geo_ray.data.run.block_reader import MAX_PIXEL_BYTES, MAX_RAW_BYTES
from geo_ray.data.run.preparation import GeotagJob, GeotagOptions, other_index
from geo_ray.data.sources import Sources, open_sources
from geo_ray.data.sources.left_out import left_out_text
from geo_ray.data.terminal import bundle_text
from geo_ray.errors import InputError
from geo_ray.models.bundle import Bundle
from geo_ray.models.preprocess import BYTES_PER_PIXEL, MAX_BYTES
from geo_ray.pipeline.columns import view_columns
from geo_ray.pipeline.search_size import fits_gpu, search_bytes
from geo_ray.pipeline.stage import Runtime
from geo_ray.remote.place import Place

LIBRARIES_BYTES = 600 * 2**20  # resident in a worker that has loaded a bundle of 20 MB
BUNDLE_COPIES = 3  # of the weights: as read, as the tower has them, and in the dtype that it computes in
WITH_DECODER = tuple(f"accelerator_type:{name}" for name in ("A100", "A30", "H100", "H200", "GH200", "B200", "GB200"))
CPUS_FOR_A_GPU = 8  # decode 2,700 photos of 640 x 480 a second, as many as an H200 encodes by ViT-L/14
NUM_TIMED = 32  # blank images that the rate is estimated from


@dataclass(frozen=True, kw_only=True)
class Count:
    """What listing all inputs tells: shards, rows in those that say how many they have, and shards that don't."""

    num_shards: int = 0
    num_rows: int = 0
    num_unknown: int = 0


def count(sources: Sources) -> Count:
    """List all inputs."""
    num_shards = num_rows = num_unknown = 0
    for shard in sources.shards():
        num_shards += 1
        num_rows += shard.num_rows or 0
        num_unknown += shard.num_rows is None
    return Count(num_shards=num_shards, num_rows=num_rows, num_unknown=num_unknown)


def plan_text(job: GeotagJob, place: Place) -> str:
    """Who does what, in two lines."""
    sources = ", ".join(source.kind for source in job.sources.sources)
    gpus = f" and {place.gpus_per_worker:g} GPU" if place.gpus_per_worker else ""
    apart = ", decoding on the GPU" if place.decode_on_gpu else ", decoding apart" if place.decode_apart else ""
    if place.search_on_gpu:
        apart += f", places searched on the GPU ({search_bytes(job.bundle) / 2**20:,.0f} MiB of it)"
    index = (
        f"; index {job.index.address}: {job.num_index_shards} shards x {place.num_index_replicas} replicas"
        if job.index
        else ""
    )
    if job.index and job.bundle.calibration() and not job.bundle.calibrated_with(other_index(job.index, job.bundle)):
        index += "; no radii, as the bundle was not calibrated with this index"
    return (
        f"{bundle_text(job.bundle)}\ninputs: {sources}; blocks of at most {job.work.rows_per_block} images; "
        f"{place.workers_text} workers of {place.cpus_per_worker} CPU{gpus} ({place.device}){apart}, "
        f"batches of {place.batch_size}{index}"
    )


def dry_run_text(job: GeotagJob, place: Place, cpus: float) -> str:
    """All that can be known of a run without doing it: lists the inputs, and times a worker on blank images here."""
    sources = open_sources(job.work.inputs, job.work.options)
    found = count(sources)
    rate = worker_rate(job, place)
    lines = [plan_text(job, place), _inputs_line(job, found)]
    if sources.left_out:
        lines.append(f"  left out: {left_out_text(sources.left_out)}")
    lines.append(
        f"CPUs: {cpus:g}; {place.num_workers * place.cpus_per_worker} for workers, {place.index_cpus:g} for the index, "
        f"{place.data_cpus(cpus) - place.num_workers * place.cpus_per_worker:g} for listing, reading and writing"
    )
    lines.append(
        f"memory: a block takes at most {MAX_PIXEL_BYTES / 2**20:.0f} MiB as pixels, one image file "
        f"{MAX_BYTES / 2**20:.0f} MiB; a worker holds the bundle and two blocks, and "
        f"{place.memory_per_worker / 2**30:.1f} GiB are set aside for it"
    )
    lines.append(
        f"expected: {rate:,.0f} images/s a worker (decoding apart; {NUM_TIMED} blank images on this machine's CPU), "
        f"{rate * place.num_workers:,.0f} in all"
        + (f": {found.num_rows / (rate * place.num_workers) / 3600:,.2f} h" if found.num_rows else "")
    )
    return "\n".join(lines)


def with_search(place: Place, options: GeotagOptions, bundle: Bundle) -> Place:
    """The place with places searched on GPUs or not, as the options say; ``InputError`` where that can't be.

    By default they are where what is searched leaves a GPU room.
    """
    wanted, local = options.search, not options.index and not options.features
    if wanted == "gpu" and place.device == "cpu":
        raise InputError("--search gpu needs a GPU, and Ray knows of none; leave it out")
    if wanted == "gpu" and not local:
        raise InputError("--search gpu is for the bundle's own places: leave it out with --index, and of features")
    if place.device == "cpu" or not local or wanted == "cpu":
        return place
    return replace(place, search_on_gpu=wanted == "gpu" or fits_gpu(bundle))


def with_decoding(place: Place, options: GeotagOptions, bundle: Bundle, resources: dict[str, float]) -> Place:
    """The place with images decoded on GPUs or not, as the options say; ``InputError`` where that can't be.

    By default they are where a GPU that has a decoder in hardware has so few CPUs that those would keep it waiting.
    """
    wanted, fast = options.decode, bundle.encoder.preprocessing == "fast"
    if wanted == "gpu" and place.device == "cpu":
        raise InputError("--decode gpu needs a GPU, and Ray knows of none; leave it out")
    if wanted == "gpu" and not fast:
        raise InputError(
            f"--decode gpu: {bundle.ref} has the exact pixels of {bundle.encoder.preprocessing}, which are made on CPUs"
        )
    num_gpus = (place.max_workers or place.num_workers) * place.gpus_per_worker
    short = num_gpus > 0 and resources["CPU"] / num_gpus < CPUS_FOR_A_GPU
    able = any(name.startswith(WITH_DECODER) for name in resources)
    return replace(place, decode_on_gpu=wanted == "gpu" or (wanted == "auto" and fast and short and able))


def worker_memory(job: GeotagJob) -> int:
    """Bytes to set aside for a worker: Python with torch, the bundle while weights are converted, and two blocks.

    What larger images than the bundle's default take while they are decoded comes to it.
    """
    more_pixels = max(0, (job.options.max_pixels or 0) - job.bundle.max_pixels)
    blocks = 2 * (MAX_RAW_BYTES + MAX_PIXEL_BYTES)
    return LIBRARIES_BYTES + BUNDLE_COPIES * job.bundle.size_bytes + blocks + BYTES_PER_PIXEL * more_pixels


def worker_rate(job: GeotagJob, place: Place) -> float:
    """Images a second that a worker answers once they are decoded, on this machine's CPU."""
    head, tail = job.work.graph.split_at_pixels()
    blank = {name: np.full(NUM_TIMED, None, dtype=object) for name in view_columns(job.work.num_views)}
    blank |= {name: np.full(NUM_TIMED, "", dtype=object) for name in ("image_id", "uri", "problem")}
    batch = head.build(Runtime())({name: blank[name] for name in head.inputs})
    batch["problem"][:], batch["view_count"][:] = "", 1  # as if they had been images
    built = tail.build(Runtime(num_threads=place.cpus_per_worker))
    built(batch)
    start = time.perf_counter()
    built(batch)
    return NUM_TIMED / (time.perf_counter() - start)


def _inputs_line(job: GeotagJob, found: Count) -> str:
    rows = f"{found.num_rows:,} images" if found.num_rows or not found.num_unknown else ""
    unknown = f"{found.num_unknown:,} containers, whose images only reading counts" if found.num_unknown else ""
    pieces = f"in {found.num_shards:,} pieces, each committed by itself"
    return f"{' and '.join(filter(None, (rows, unknown)))} {pieces}"
