"""What a bulk run is to do, found usable before it begins. Nothing here needs Ray Data, which is imported meanwhile."""

from dataclasses import dataclass, field, replace

from geo_ray.data.record.ledger import Ledger, RunKey
from geo_ray.data.run.block_reader import rows_per_block
from geo_ray.data.sources import SourceOptions, Sources, open_sources
from geo_ray.errors import InputError
from geo_ray.index.index_folder import IndexInfo, check_info, read_info
from geo_ray.models.bundle import INDEX, Bundle, open_bundle
from geo_ray.pipeline.graph import Graph, check_exif, check_floor, embedding_graph, graph_of
from geo_ray.remote.shard_files import ShardSet, find_shards

FEW = 8192  # inputs that are counted before a run begins; of more, blocks are as large as they get
BLOCKS_PER_SHARD = 4  # of named images, about: the last block of a shard is seldom full, and fills no micro-batch
ROWS_PER_BLOCK = "rows_per_block"
ROWS_OF_FILES = 256  # in a block, as many as GPUs mostly take at once


@dataclass(frozen=True, kw_only=True)
class GeotagOptions:
    """What to geotag, with what, and where the answers go."""

    inputs: tuple[str, ...]
    output: str
    bundle: str = "earth-tiny"
    top_k: int | None = None
    sources: SourceOptions = field(default_factory=SourceOptions)
    index: str | None = None  # searched on shard actors in place of the bundle's own in each worker
    index_replicas: int = 1
    features: bool = False  # write image features in place of answers
    hashes: bool = False  # and perceptual hashes beside them
    dtype: str = "auto"  # what the tower computes in: float32, bfloat16, float16, or what the device is fast in
    exif: str = "ignore"  # photos that carry a position: ignore it, skip them, or compare it with the answer
    max_pixels: int | None = None  # of an image, as ``decode_image`` counts; None: as many as the bundle says
    micro_batch: int | None = None  # images that the tower sees at once; None: see ``Encode``
    search: str = "auto"  # where places are searched: on cpu or gpu, with the same answers
    decode: str = "auto"  # where images are decoded: on cpu or gpu, the same for all of a run
    min_probability: float | None = None  # an answer with a smaller one is uncertain
    max_radius_km: float | None = None  # an answer with a larger or unknown radius_km_90 is uncertain
    within: str | None = None  # a bundle of cells, in whose most probable ones addresses are looked for
    resume: bool = False
    max_problem_share: float = 0.1  # above it the job fails, after all answers are written

    def __post_init__(self) -> None:
        if not 0 <= self.max_problem_share <= 1:
            raise InputError(f"max_problem_share={self.max_problem_share} must be from 0 to 1")
        check_floor(self.min_probability, self.max_radius_km)
        if self.max_pixels is not None and self.max_pixels < 1:
            raise InputError(f"max_pixels={self.max_pixels} must be at least 1")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise InputError(f"micro_batch={self.micro_batch} must be at least 1")
        for name in ("search", "decode"):
            if getattr(self, name) not in ("auto", "cpu", "gpu"):
                raise InputError(f"{name}={getattr(self, name)!r} must be auto, cpu or gpu")
        check_exif(self.exif)
        if self.features and self.exif != "ignore":
            raise InputError(f"exif={self.exif!r} is for answers; leave it out where features are written")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run answers, how, and where to."""

    inputs: tuple[str, ...]
    options: SourceOptions
    num_views: int
    graph: Graph
    ledger: Ledger
    rows_per_block: int
    features: bool = False


@dataclass(frozen=True, kw_only=True)
class GeotagJob:
    """A run whose every part is known to be usable. ``work`` has a ledger that was claimed, unless for a dry run."""

    options: GeotagOptions
    bundle: Bundle
    index: ShardSet | None  # what shard actors are to search
    sources: Sources
    work: Work
    num_rows: int  # inputs there are at least: only a few are counted before the run

    @property
    def num_index_shards(self) -> int:
        """How many shards are to be put on actors."""
        return len(self.index.shards) if self.index else 0


def prepare(options: GeotagOptions, dry_run: bool = False) -> GeotagJob:
    """The job of these options; claims the output unless ``dry_run``. Needs no Ray.

    Raises ``InputError``, ``BundleError`` or ``OutputError``.
    """
    bundle = open_bundle(options.bundle)
    index = find_index(options.index, bundle) if options.index else None
    sources = open_sources(options.inputs, options.sources)
    views = sources.num_views
    if options.features:
        encoding = options.max_pixels, options.micro_batch
        graph = embedding_graph(bundle, views, options.dtype, *encoding, with_hashes=options.hashes)
    else:
        encoding, floor = (options.max_pixels, options.micro_batch), (options.min_probability, options.max_radius_km)
        searched = other_index(index, bundle)
        how = options.dtype, options.exif, *encoding, *floor
        graph = graph_of(bundle, options.top_k, views, *how, index=searched, within=options.within)
    ledger = Ledger(options.output)
    few, all_counted = _count_few(sources)
    sides = [each.encoder.image_size for each in (bundle, *([open_bundle(options.within)] if options.within else []))]
    pixel_bytes = views * 3 * sum(side**2 for side in sides)
    num_rows = few if all_counted else None
    settings = {
        ROWS_PER_BLOCK: rows_per_block(pixel_bytes, options.micro_batch or bundle.encoder.micro_batch, num_rows)
    }
    if options.decode == "gpu":  # whole files travel, which may be large
        settings[ROWS_PER_BLOCK] = min(settings[ROWS_PER_BLOCK], ROWS_OF_FILES)
    if not dry_run:
        settings = ledger.claim(_key(options, bundle, index), options.resume, settings)
    size = settings[ROWS_PER_BLOCK]
    work = Work(
        inputs=options.inputs,
        options=replace(options.sources, rows_per_shard=BLOCKS_PER_SHARD * size),
        num_views=views,
        graph=graph,
        ledger=ledger,
        rows_per_block=size,
        features=options.features,
    )
    return GeotagJob(options=options, bundle=bundle, index=index, sources=sources, work=work, num_rows=few)


def _key(options: GeotagOptions, bundle: Bundle, index: ShardSet | None) -> RunKey:
    return RunKey(
        bundle_fingerprint=bundle.fingerprint,
        top_k=options.top_k,
        inputs=options.inputs,
        features=options.features,
        hashes=options.hashes or None,
        views_by=options.sources.views_by,
        image_column=options.sources.image_column,
        id_column=options.sources.id_column,
        image_folder=options.sources.image_folder,
        dtype=options.dtype,
        index=index.generation if index else "",
        exif=options.exif,
        max_pixels=options.max_pixels,
        micro_batch=options.micro_batch,
        min_probability=options.min_probability,
        max_radius_km=options.max_radius_km,
        within=open_bundle(options.within).fingerprint if options.within else None,
    )


def _count_few(sources: Sources) -> tuple[int, bool]:
    """How many inputs there are at least, and whether these are all; only a few are counted."""
    num_rows = 0
    for shard in sources.shards():
        if shard.num_rows is None:
            return num_rows, False
        num_rows += shard.num_rows
        if num_rows >= FEW:
            return num_rows, False
    return num_rows, True


def other_index(index: ShardSet | None, bundle: Bundle) -> str:
    """A name for the members of an index that is searched in place of the bundle's own; empty where it is that one.

    It goes by their number and kind, as splitting and copying leave them.
    """
    if index is None:
        return ""
    name, own = (_members_text(info) for info in (index.whole, read_info(bundle.path(INDEX))))
    return "" if name == own else name


def _members_text(info: IndexInfo) -> str:
    return (
        f"{info.num_members} members, {info.num_prototypes} prototypes of {info.num_features} in {info.dtype}, "
        f"by {info.metric}"
    )


def find_index(address: str, bundle: Bundle) -> ShardSet:
    """The shards of the index at an address, for searches of this bundle; ``InputError`` or ``BundleError`` otherwise.

    Only its manifest is read.
    """
    if bundle.kind != "cells":
        raise InputError(f"bundle {bundle.ref} is of kind {bundle.kind}, which searches no index; leave out --index")
    index, own = find_shards(address), read_info(bundle.path(INDEX))
    check_info(index.address, index.whole, num_cells=own.num_cells, metric=own.metric, **bundle.index_wanted())
    return index
