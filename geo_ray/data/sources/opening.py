"""From the inputs of a run to shards, while the inputs are still being listed."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from geo_ray.data.sources.containers import DAMAGE, MsgpackShard, size_of
from geo_ray.data.sources.image_tables import check_type, image_columns, image_table_shards, open_parquet
from geo_ray.data.sources.inputs import distinct, no_images, num_views
from geo_ray.data.sources.kinds import kind_by_content, kind_of_found, kind_of_many
from geo_ray.data.sources.left_out import reason_of
from geo_ray.data.sources.listing import Found, kind_of, match, named_inputs, root_of, single, walk
from geo_ray.data.sources.manifests import access_of, check_ids, manifest_inputs, read_manifest
from geo_ray.data.sources.options import SourceOptions
from geo_ray.data.sources.reading import Access, FilesShard
from geo_ray.data.sources.rows import Input, Shard, slices
from geo_ray.data.sources.tars import TarShard
from geo_ray.data.sources.zips import zip_shards
from geo_ray.remote_files import Verdict, judge
from geo_ray.tables.ids import readable

CONTAINERS = ("tar", "zip", "msgpack", "parquet")
NUM_SAMPLED = 10_000  # names of a folder that decide what it holds: ten pages of S3's listing


@dataclass(frozen=True, kw_only=True)
class Source:
    """Inputs of one kind: ``image``, ``tar``, ``zip``, ``msgpack``, ``parquet`` (with images) or ``table``.

    ``num_rows`` is None where only listing or reading tells. ``counts`` are of the files that were left out, by reason,
    in what has been listed last.
    """

    kind: str
    make_shards: Callable[[], Iterator[Shard]]
    num_views: int = 1
    num_rows: int | None = None
    counts: tuple[Counter[str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """All inputs of a run."""

    sources: tuple[Source, ...]

    @property
    def num_views(self) -> int:
        """The most views that an item may have."""
        return max(source.num_views for source in self.sources)

    @property
    def num_rows(self) -> int | None:
        """How many rows there are, or None where only listing or reading tells."""
        counts = [source.num_rows for source in self.sources]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def left_out(self) -> dict[str, int]:
        """How many files were left out for which reason, in what has been listed last: all, once shards have ended."""
        return dict(sum((counts for source in self.sources for counts in source.counts), Counter()))

    def shards(self) -> Iterator[Shard]:
        """The shards, each once, in an order that stays; listing goes on while they are taken.

        Of what was given out, only the shards' ids are remembered. Raises ``InputError`` where a listing fails.
        """
        seen: set[str] = set()
        for shard in itertools.chain.from_iterable(source.make_shards() for source in self.sources):
            if shard.shard_id not in seen:
                seen.add(shard.shard_id)
                yield shard


@dataclass(frozen=True, kw_only=True)
class Group:
    """Files of one kind that an input named; ``root`` is the folder they lie below, None for files named outright."""

    kind: str
    files: Callable[[], Iterator[Found]]
    root: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)


def open_sources(inputs: Sequence[str], options: SourceOptions | None = None) -> Sources:
    """The sources behind folders, files, glob patterns and URIs: images, containers of them or tables.

    ``{000..102}`` in a name is written out. With one input, an image's id is its path below it, and what a container
    holds has ``#key`` after that; with several, the path is the whole URI instead, but for images that are each named
    outright by different names. A table's rows have their own ids. Raises ``InputError`` that names an input which
    holds nothing, or of which it can't be told what it holds; at most ``NUM_SAMPLED`` names are listed for that.
    """
    options = options or SourceOptions()
    texts = list(dict.fromkeys(one for text in inputs for one in named_inputs(text)))
    if options.views_by is not None:
        return Sources(sources=(_grouped_table(texts, options.views_by, options),))
    groups = _merged([_group(text, options) for text in texts])
    by_path = len(groups) == 1
    makers = {"image": _images, "table": _tables}
    kinds = dict.fromkeys(group.kind for group in groups)
    sources = [
        makers.get(kind, _containers)([group for group in groups if group.kind == kind], by_path, options)
        for kind in kinds
    ]
    if not any(map(_holds_some, sources)):
        raise no_images(", ".join(texts[:3]))
    return Sources(sources=tuple(sources))


def _holds_some(source: Source) -> bool:
    """Whether there is a row in a source; containers are read until the first image, others were listed so far.

    What can't be read now is another matter, which the run tells.
    """
    if source.kind not in CONTAINERS:
        return True
    try:
        return any(shard.num_rows or next(shard.rows(), None) for shard in source.make_shards())
    except Exception as error:
        if judge(error) is Verdict.BUG:
            raise
        return True


def _group(text: str, options: SourceOptions) -> Group:
    """What one input names."""
    named = kind_of(text)
    if named == "file":
        found = single(text)
        return Group(kind=_parquet_kind(kind_by_content(found), found, options), files=lambda: iter([found]))

    left_out: Counter[str] = Counter()

    def listed() -> Iterator[Found]:
        left_out.clear()
        return walk(text, left_out) if named == "folder" else match(text)

    sample = [(kind_of_found(found), found) for found in itertools.islice(listed(), NUM_SAMPLED)]
    kind = kind_of_many(text, (one for one, _ in sample), named == "pattern")
    kept = [found for one, found in sample if one == kind]
    group = Group(kind=kind, files=listed, root=root_of(text, named == "pattern"), left_out=left_out)
    if not kept:  # a pattern that matches objects without a suffix that we know
        return group

    def of_kind() -> Iterator[Found]:
        for found in listed():
            if (one := kind_of_found(found)) == kind:
                yield found
            else:
                left_out[reason_of(found.path, one, left_out)] += 1

    return replace(group, files=of_kind, kind=_parquet_kind(kind, kept[0], options))


def _parquet_kind(kind: str, first: Found, options: SourceOptions) -> str:
    """``table`` for parquet files that name images instead of holding them; otherwise the kind as it is."""
    if kind != "parquet":
        return kind
    try:
        with open_parquet(first.uri) as table:
            if image_columns(table, options, first.uri) is not None:
                return kind
            check_type(table.schema_arrow, options, first.uri)
            return "table"
    except DAMAGE:
        return kind


def _merged(groups: list[Group]) -> list[Group]:
    """The groups, with all images that were named outright as one."""
    named = [group for group in groups if group.kind == "image" and group.root is None]
    if len(named) < 2:
        return groups
    files = [found for group in named for found in group.files()]
    if len({found.path for found in files}) < len(files):
        files = [replace(found, path=found.uri) for found in files]
    others = [group for group in groups if group not in named]
    return [Group(kind="image", files=lambda: iter(files)), *others]


def _images(groups: list[Group], by_path: bool, options: SourceOptions) -> Source:
    """The source of files that each are an image."""

    def inputs() -> Iterator[Input]:
        found = itertools.chain.from_iterable(group.files() for group in groups)
        for one in _once(found) if _overlap(groups) else found:
            yield Input(image_id=readable(one.path if by_path else one.uri), uri=one.uri)

    return Source(kind="image", make_shards=lambda: _file_shards(inputs(), options, None), counts=_counts(groups))


def _file_shards(inputs: Iterable[Input], options: SourceOptions, access: Access | None) -> Iterator[Shard]:
    for some in slices(inputs, options.rows_per_shard):
        label = f"{some[0].image_id} and {len(some) - 1} more"
        yield FilesShard(label=label, inputs=some, policy=options.fetch, access=access, num_rows=len(some))


def _overlap(groups: list[Group]) -> bool:
    """Whether two groups may have a file in common."""
    roots = sorted(f"{group.root}/" for group in groups if group.root is not None)
    has_named = len(roots) < len(groups)
    return (has_named and bool(roots)) or any(b.startswith(a) for a, b in itertools.pairwise(roots))


def _once(files: Iterable[Found]) -> Iterator[Found]:
    """Each file once; some 70 bytes are kept of each. Two of ten million share a hash once in 400,000 runs."""
    seen: set[int] = set()
    for found in files:
        if (key := hash(found.uri)) not in seen:
            seen.add(key)
            yield found


def _counts(groups: list[Group]) -> tuple[Counter[str], ...]:
    return tuple(group.left_out for group in groups)


def _containers(groups: list[Group], by_path: bool, options: SourceOptions) -> Source:
    """The source of files that each hold images."""
    kind = groups[0].kind

    inside: Counter[str] = Counter()

    def shards() -> Iterator[Shard]:
        inside.clear()
        for found in itertools.chain.from_iterable(group.files() for group in groups):
            label = readable(found.path if by_path else found.uri)
            yield from _container_shards(kind, found, label, options, inside)

    first = next(groups[0].files())
    return Source(
        kind=kind,
        make_shards=shards,
        num_views=_views_of(first, options) if kind == "parquet" else 1,
        counts=(*_counts(groups), inside),
    )


def _container_shards(
    kind: str, found: Found, label: str, options: SourceOptions, left_out: Counter[str]
) -> Iterator[Shard]:
    if kind == "zip":
        return zip_shards(found, label, options.rows_per_shard, left_out)
    if kind == "parquet":
        return image_table_shards(found, label, options)
    shard = TarShard if kind == "tar" else MsgpackShard
    return iter([shard(label=label, uri=found.uri, size_bytes=size_of(found))])


def _views_of(found: Found, options: SourceOptions) -> int:
    try:
        with open_parquet(found.uri) as table:
            columns = image_columns(table, options, found.uri)
    except DAMAGE:
        return 1
    return columns.num_views if columns else 1


def _tables(groups: list[Group], by_path: bool, options: SourceOptions) -> Source:
    """The source of manifests; they are read through once before, to know that their ids are different."""
    paths = [found.uri for group in groups for found in group.files()]
    num_rows, views, repeated = check_ids(paths, options)
    if not num_rows:
        raise no_images(paths[0])

    def shards() -> Iterator[Shard]:
        for path, inputs in zip(paths, manifest_inputs(paths, options, repeated), strict=True):
            yield from _file_shards(inputs, options, access_of(path, options))

    return Source(kind="table", make_shards=shards, num_views=views, num_rows=num_rows)


def _grouped_table(texts: list[str], views_by: str, options: SourceOptions) -> Source:
    """The source of manifests whose rows are views of items: they are held, as any two rows may belong together."""
    tables = {path: read_manifest(path, views_by, options) for path in texts}
    items = distinct([item for table in tables.values() for item in table])
    if not items:
        raise no_images(texts[0])

    def shards() -> Iterator[Shard]:
        for path, table in tables.items():
            yield from _file_shards(table, options, access_of(path, options))

    return Source(kind="table", make_shards=shards, num_views=num_views(items), num_rows=len(items))
