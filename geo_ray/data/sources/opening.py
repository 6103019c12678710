"""From the inputs of a run to shards, while the inputs are still being listed."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from geo_ray.data.sources.containers import DAMAGE, MsgpackShard, TarShard, size_of, zip_shards
from geo_ray.data.sources.image_tables import check_type, image_columns, image_table_shards, open_parquet
from geo_ray.data.sources.inputs import distinct, no_images, num_views
from geo_ray.data.sources.kinds import kind_by_content, kind_by_name, kind_of_many
from geo_ray.data.sources.listing import Found, kind_of, match, named_inputs, root_of, single, walk
from geo_ray.data.sources.manifests import access_of, check_ids, manifest_inputs, read_manifest
from geo_ray.data.sources.options import SourceOptions
from geo_ray.data.sources.reading import Access, FilesShard
from geo_ray.data.sources.rows import Input, Shard, slices
from geo_ray.tables.ids import readable

NUM_SAMPLED = 10_000  # names of a folder that decide what it holds: ten pages of S3's listing


@dataclass(frozen=True, kw_only=True)
class Source:
    """Inputs of one kind: ``image``, ``tar``, ``zip``, ``msgpack``, ``parquet`` (with images) or ``table``.

    ``num_rows`` is None where only listing or reading tells. ``left_out`` counts the files of other kinds beside its
    own, among the first ``NUM_SAMPLED`` of each folder.
    """

    kind: str
    make_shards: Callable[[], Iterator[Shard]]
    num_views: int = 1
    num_rows: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)


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
    left_out: dict[str, int] = field(default_factory=dict)


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
    return Sources(sources=tuple(sources))


def _group(text: str, options: SourceOptions) -> Group:
    """What one input names."""
    named = kind_of(text)
    if named == "file":
        found = single(text)
        return Group(kind=_parquet_kind(kind_by_content(found), found, options), files=lambda: iter([found]))

    def listed() -> Iterator[Found]:
        return walk(text) if named == "folder" else match(text)

    sample = list(itertools.islice(listed(), NUM_SAMPLED))
    kind, left_out = kind_of_many(text, (found.path for found in sample), named == "pattern")
    kept = [found for found in sample if kind_by_name(found.path) == kind]
    group = Group(kind=kind, files=listed, root=root_of(text, named == "pattern"), left_out=left_out)
    if not kept:  # a pattern that matches files without a suffix that we know
        return group
    only = replace(group, files=lambda: (found for found in listed() if kind_by_name(found.path) == kind))
    return replace(only, kind=_parquet_kind(kind, kept[0], options))


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

    return Source(kind="image", make_shards=lambda: _file_shards(inputs(), options, None), left_out=_left_out(groups))


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


def _left_out(groups: list[Group]) -> dict[str, int]:
    return {kind: count for group in groups for kind, count in group.left_out.items()}


def _containers(groups: list[Group], by_path: bool, options: SourceOptions) -> Source:
    """The source of files that each hold images."""
    kind = groups[0].kind

    def shards() -> Iterator[Shard]:
        for found in itertools.chain.from_iterable(group.files() for group in groups):
            yield from _container_shards(kind, found, readable(found.path if by_path else found.uri), options)

    first = next(groups[0].files())
    return Source(
        kind=kind,
        make_shards=shards,
        num_views=_views_of(first, options) if kind == "parquet" else 1,
        left_out=_left_out(groups),
    )


def _container_shards(kind: str, found: Found, label: str, options: SourceOptions) -> Iterator[Shard]:
    if kind == "zip":
        return zip_shards(found, label, options.rows_per_shard)
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
