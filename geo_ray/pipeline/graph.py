"""THE graph: the one definition of inference, which every runner executes."""

import time
from dataclasses import dataclass

from geo_ray.errors import InputError
from geo_ray.index.index_folder import check_index
from geo_ray.models.bundle import INDEX, Bundle, open_bundle
from geo_ray.pipeline.address_stages import DescribeAddress, SearchAddresses, within_stages
from geo_ray.pipeline.cell_stages import RankCells, Refine, RefineByMembers, SearchMembers, SearchPrototypes
from geo_ray.pipeline.columns import ADDRESS, ANSWER, EXIF_DISTANCE, EXIF_POINT, MAX_VIEWS, SOURCE, Batch, view_columns
from geo_ray.pipeline.exif_stage import EXIF_CHOICES, CompareExif, ReadExif
from geo_ray.pipeline.place_stages import ProbeLabels, SearchGallery
from geo_ray.pipeline.stage import Runtime, Stage, StageSpec, run_stage
from geo_ray.pipeline.stages import Decode, Describe, Encode, Hash

SEARCHES = (RankCells, SearchPrototypes, SearchMembers, SearchGallery, ProbeLabels)
OUTPUT = ("image_id", "uri", *(column.name for column in ANSWER), "problem")


@dataclass(frozen=True)
class Graph:
    """A tuple of stage specs over columns, checked when it is made; ``output`` are the columns that leave it."""

    stages: tuple[StageSpec, ...]
    inputs: tuple[str, ...] = tuple(column.name for column in SOURCE)
    output: tuple[str, ...] = OUTPUT

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for stage in self.stages:
            missing = [name for name in stage.reads if name not in known]
            if missing:
                raise ValueError(f"{type(stage).__name__} reads {missing}, which no earlier stage writes")
            known |= {column.name for column in stage.writes}
        if lost := [name for name in self.output if name not in known]:
            raise ValueError(f"no stage writes the output columns {lost}")

    def build(self, runtime: Runtime) -> "BuiltGraph":
        """The graph with every stage loaded, for one worker."""
        return BuiltGraph(self, tuple(stage.build(runtime) for stage in self.stages))

    def blank(self, num_rows: int) -> Batch:
        """The output columns of so many rows that nothing is known of; nothing is loaded."""
        written = {column.name: column for stage in self.stages for column in stage.writes}
        columns = {column.name: column for column in SOURCE} | written
        return {name: columns[name].blank(num_rows) for name in self.output}

    def split(self, first: int) -> tuple["Graph", "Graph"]:
        """Two graphs that give the same when run one after the other, cut before stage ``first``."""
        head, tail = self.stages[:first], self.stages[first:]
        written = {column.name for stage in head for column in stage.writes}
        needed = {name for stage in tail for name in stage.reads} | set(self.output)
        between = tuple(name for name in (*self.inputs, *sorted(written)) if name in needed or name == "problem")
        return Graph(head, self.inputs, between), Graph(tail, between, self.output)

    def split_at_pixels(self) -> tuple["Graph", "Graph"]:
        """All up to decoding and what else looks at pixels on CPUs, which needs no bundle, and the rest."""
        return self._split_after("pixels", (Hash,))

    def parts(self, with_search: bool = False) -> tuple["Graph", "Graph", "Graph"]:
        """Decoding (bytes to pixels), encoding (pixels to image features) and locating (features to answers).

        What suits one device is in one part: the second is for a GPU, and is ``with_search`` where that has a GPU too.
        Where features are asked for, the last is empty.
        """
        decode, rest = self.split_at_pixels()
        return decode, *rest._split_after("image_features", SEARCHES if with_search else ())

    def _split_after(self, column: str, kinds: tuple[type, ...] = ()) -> tuple["Graph", "Graph"]:
        """Cut after the last stage that writes this column, or is of these kinds."""
        for number in reversed(range(len(self.stages))):
            stage = self.stages[number]
            if isinstance(stage, kinds) or column in [written.name for written in stage.writes]:
                return self.split(number + 1)
        raise ValueError(f"no stage writes {column!r}")


@dataclass(frozen=True)
class BuiltGraph:
    """A graph with its stages loaded; calling it answers a batch."""

    graph: Graph
    stages: tuple[Stage, ...]

    def __call__(self, batch: Batch) -> Batch:
        """The output columns for a batch of input columns, row for row."""
        return self.timed(batch)[0]

    def timed(self, batch: Batch) -> tuple[Batch, dict[str, float]]:
        """The output columns for a batch, and how many seconds each stage took."""
        seconds = {}
        for spec, stage in zip(self.graph.stages, self.stages, strict=True):
            start = time.perf_counter()
            batch = run_stage(spec, stage, batch)
            seconds[type(spec).__name__] = time.perf_counter() - start
        return {name: batch[name] for name in self.graph.output}, seconds


def encoder_stages(
    bundle: Bundle,
    num_views: int = 1,
    dtype: str = "auto",
    max_pixels: int | None = None,
    micro_batch: int | None = None,
) -> tuple[StageSpec, ...]:
    """Bytes to image features: the part that building an index and inference have in common.

    ``max_pixels`` is what an image may have (see ``decode_image``); by default what the bundle says. For ``dtype`` and
    ``micro_batch`` see ``Encode``.
    """
    spec = bundle.encoder
    return (
        Decode(
            image_size=spec.image_size,
            max_pixels=bundle.max_pixels if max_pixels is None else max_pixels,
            preprocessing=spec.preprocessing,
            num_views=num_views,
        ),
        Encode(bundle=bundle.ref, num_features=spec.num_features, dtype=dtype, micro_batch=micro_batch),
    )


def place_stages(bundle: Bundle) -> tuple[StageSpec, ...]:
    """Image features to a place and its alternatives, by the kind of bundle.

    Raises ``BundleError`` where a bundle of cells has an index of another encoder, or one that doesn't open.
    """
    ref, k = bundle.ref, bundle.num_candidates
    if bundle.kind == "zero-shot":
        return (ProbeLabels(bundle=ref, num_candidates=k),)
    if bundle.kind in ("gallery", "address"):
        return (SearchGallery(bundle=ref, num_candidates=k),)
    check_index(bundle.path(INDEX), **bundle.index_wanted())
    rank, m = RankCells(bundle=ref, num_features=bundle.num_features, num_cells=k), bundle.refinement.num_members
    if bundle.refinement.method == "neighbours":
        return (rank, SearchMembers(bundle=ref, num_members=m), RefineByMembers(bundle=ref, num_cells=k))
    return (rank, SearchPrototypes(bundle=ref, num_cells=k, num_members=m), Refine(bundle=ref, num_cells=k))


def _inputs(num_views: int) -> tuple[str, ...]:
    """The source columns of items with this many views."""
    if not 1 <= num_views <= MAX_VIEWS:
        raise InputError(f"{num_views} views of one item; there can be from 1 to {MAX_VIEWS}")
    others = tuple(column.name for column in SOURCE if column.name != "bytes")
    return (*others, *view_columns(num_views))


def embedding_graph(
    bundle: Bundle,
    num_views: int = 1,
    dtype: str = "auto",
    max_pixels: int | None = None,
    micro_batch: int | None = None,
    with_hashes: bool = False,
) -> Graph:
    """The graph that answers image features, and perceptual hashes where asked for; see ``encoder_stages``."""
    output = ("image_id", "uri", "image_features", "problem")
    decode, encode = encoder_stages(bundle, num_views, dtype, max_pixels, micro_batch)
    if not with_hashes:
        return Graph((decode, encode), _inputs(num_views), output)
    return Graph((decode, Hash(), encode), _inputs(num_views), (*output, "phash"))


def calibration_graph(bundle: Bundle, num_views: int = 1) -> Graph:
    """The graph that answers what calibration is fitted on: what was located, before it is described."""
    stages = (*encoder_stages(bundle, num_views), *place_stages(bundle))
    located = ("latlon", "cells", "winner", "candidate_probability", "feature_distance", "spread_km")
    return Graph(stages, _inputs(num_views), ("image_id", *located, "problem"))


def graph_of(
    bundle: Bundle,
    top_k: int | None = None,
    num_views: int = 1,
    dtype: str = "auto",
    exif: str = "ignore",
    max_pixels: int | None = None,
    micro_batch: int | None = None,
    min_probability: float | None = None,
    max_radius_km: float | None = None,
    index: str = "",
    within: str | None = None,
) -> Graph:
    """The graph of a bundle; ``top_k`` is how many candidates to report (default: at most 5).

    An item has up to ``num_views`` images of at most ``max_pixels``, and the tower computes in ``dtype``, so many at
    once (see ``encoder_stages``). ``exif`` says what becomes of photos whose EXIF has a position: nothing is read
    (``ignore``), they are left out (``skip``), or answered beside it (``compare``: three more columns). For
    ``min_probability`` and ``max_radius_km`` see ``Describe``. ``index`` names the index that is searched in place of
    the bundle's own: what was not calibrated with it is not stated. ``within`` names a bundle of cells in whose most
    probable cells an address is looked for. Raises ``InputError`` for a ``top_k`` that the
    bundle can't fill, and where radii are to be looked at that were never calibrated.
    """
    check_floor(min_probability, max_radius_km)
    calibrated = bundle.calibrated_with(index)
    if within is not None:
        check_within(bundle, open_bundle(within))
    if max_radius_km is not None and not calibrated:
        why = " with this index" if bundle.calibration() else ""
        raise InputError(
            f"bundle {bundle.ref} has no radii{why} that --max-radius-km could look at; calibrate it first"
        )
    num_reported = min(5, bundle.num_candidates) if top_k is None else top_k
    if not 1 <= num_reported <= bundle.num_candidates:
        known = f"the candidates that {bundle.ref} weighs"
        raise InputError(f"top_k={num_reported} must be from 1 to {bundle.num_candidates}, {known}")
    floor = {"min_probability": min_probability, "max_radius_km": max_radius_km}
    describe = Describe(bundle=bundle.ref, num_reported=num_reported, calibrated=calibrated, **floor)
    decode, encode = encoder_stages(bundle, num_views, dtype, max_pixels, micro_batch)
    if bundle.kind == "address":
        stages: tuple[StageSpec, ...] = _address_stages(bundle, (decode, encode), within, describe, num_views)
        output = (*OUTPUT, *(column.name for column in ADDRESS))
        return _with_exif(Graph(stages, _inputs(num_views), output), exif)
    return _with_exif(Graph((decode, encode, *place_stages(bundle), describe), _inputs(num_views)), exif)


def _address_stages(
    bundle: Bundle, encoder: tuple[StageSpec, ...], within: str | None, describe: Describe, num_views: int
) -> tuple[StageSpec, ...]:
    """The stages of a bundle of addresses, in the cells that another bundle finds where one is named."""
    named = describe, DescribeAddress(bundle=bundle.ref)
    if within is None:
        return (*encoder, *place_stages(bundle), *named)
    (decode, encode), (other_decode, other_encode, rank) = encoder, within_stages(within, num_views)
    search = SearchAddresses(bundle=bundle.ref, num_candidates=bundle.num_candidates, within=within)
    return (other_decode, decode, other_encode, encode, rank, search, *named)


def check_within(bundle: Bundle, other: Bundle) -> None:
    """Raise ``InputError`` where no address can be looked for in the cells of another bundle."""
    if bundle.kind != "address":
        raise InputError(f"--within is for bundles of addresses, and {bundle.ref} is of kind {bundle.kind}")
    if other.kind != "cells":
        raise InputError(f"--within {other.ref}: that bundle is of kind {other.kind}; name one of kind cells")


def _with_exif(graph: Graph, exif: str) -> Graph:
    """The graph that also looks at EXIF, as ``graph_of`` says."""
    check_exif(exif)
    if exif == "ignore":
        return graph
    if exif == "skip":
        return Graph((ReadExif(skip=True), *graph.stages), graph.inputs, graph.output)
    more = tuple(column.name for column in (*EXIF_POINT, EXIF_DISTANCE))
    return Graph((ReadExif(), *graph.stages, CompareExif()), graph.inputs, (*graph.output, *more))


def check_floor(min_probability: float | None, max_radius_km: float | None) -> None:
    """Raise ``InputError`` where no answer could be certain, as ``graph_of`` understands it."""
    if min_probability is not None and not 0 <= min_probability <= 1:
        raise InputError(f"min_probability={min_probability} must be from 0 to 1")
    if max_radius_km is not None and not max_radius_km > 0:
        raise InputError(f"max_radius_km={max_radius_km} must be above 0")


def check_exif(exif: str) -> None:
    """Raise ``InputError`` for what ``graph_of`` doesn't know."""
    if exif not in EXIF_CHOICES:
        raise InputError(f"exif={exif!r} must be one of {', '.join(EXIF_CHOICES)}")
