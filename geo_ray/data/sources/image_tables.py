"""Parquet files that hold the images themselves: Hugging Face's, img2dataset's, and anybody's with a binary column."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geo_ray.data.sources.containers import DAMAGE, ContainerShard, DamagedShard, open_binary, size_of
from geo_ray.data.sources.image_cells import Form, form_of, images_in, is_text, says_image
from geo_ray.data.sources.listing import Found
from geo_ray.data.sources.manifests import PATH_NAMES, URL_NAMES
from geo_ray.data.sources.options import SourceOptions
from geo_ray.data.sources.rows import Row, Shard
from geo_ray.errors import InputError
from geo_ray.pipeline.columns import MAX_VIEWS
from geo_ray.tables.ids import container_id

IMAGE_NAMES = ("image", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "img", "photo", "picture", "content")
ID_NAMES = ("image_id", "id", "img_id", "photo_id", "key", "__key__")
ROWS_AT_A_TIME = 32


@contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """The parquet file; raises ``pa.ArrowInvalid`` where it is damaged, and what reading does where that fails."""
    try:
        with open_binary(uri) as file, closing(pq.ParquetFile(file)) as table:
            yield table
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # how Arrow says that a page is damaged
            raise pa.ArrowInvalid(str(error)) from error
        raise


@dataclass(frozen=True, kw_only=True)
class ImageColumns:
    """Where a table has its images: a column for each view (``image``, ``image_2`` ...), bytes or a struct of them.

    ``ids`` are the columns that may name them, best first; ``url`` says where they come from.
    """

    views: tuple[str, ...]
    form: Form
    ids: tuple[str, ...]
    url: str | None = None

    @property
    def leaves(self) -> list[str]:
        """The views' columns as parquet names them."""
        return [f"{name}.bytes" if self.form == "struct" else name for name in self.views]

    @property
    def num_views(self) -> int:
        """How many views an item has at most."""
        return MAX_VIEWS if self.form == "several" else len(self.views)


def image_columns(table: pq.ParquetFile, options: SourceOptions, path: str) -> ImageColumns | None:
    """The columns of a table that holds images; None where it holds none, and may be a manifest.

    Columns of texts with the name of one for images are looked into. Raises ``InputError`` where several columns could
    be meant, or one that was named isn't there or can hold no image.
    """
    schema = table.schema_arrow
    holders: dict[str, Form] = {field.name: form for field in schema if (form := form_of(field.type)) is not None}
    holders |= dict.fromkeys((name for name in _texts(schema, options) if _holds_base64(table, name)), "text")
    name = _image_column(list(holders), options, path, schema.names)
    if name is None:
        return None
    views = [name]
    while len(views) < MAX_VIEWS and f"{name}_{len(views) + 1}" in holders:
        views.append(f"{name}_{len(views) + 1}")
    nested = holders[name] == "struct"
    usual = {column.casefold(): column for column in schema.names}
    ids = [options.id_column] if options.id_column else [usual[one] for one in ID_NAMES if one in usual][:1]
    if nested and schema.field(name).type.get_field_index("path") >= 0 and not options.id_column:
        ids.append(f"{name}.path")
    if missing := [one for one in ids if one.split(".")[0] not in schema.names]:
        raise InputError(f"{path} has no column {missing[0]!r}; it has {', '.join(schema.names)}")
    return ImageColumns(views=tuple(views), form=holders[name], ids=tuple(ids), url=usual.get("url"))


def _texts(schema: pa.Schema, options: SourceOptions) -> list[str]:
    """The columns of texts that may be images in base64."""
    wanted = (options.image_column,) if options.image_column else IMAGE_NAMES
    return [field.name for field in schema if is_text(field.type) and field.name.casefold() in wanted]


def _holds_base64(table: pq.ParquetFile, name: str) -> bool:
    """Whether the first text of a column is an image."""
    for batch in table.iter_batches(ROWS_AT_A_TIME, columns=[name]):
        if present := [value for value in batch[0].to_pylist() if value]:
            return says_image(present[0])
    return False


def check_type(schema: pa.Schema, options: SourceOptions, path: str) -> None:
    """Raise ``InputError`` where the column of the images has a type that holds neither images nor their names."""
    wanted = (options.image_column,) if options.image_column else (*IMAGE_NAMES, *PATH_NAMES, *URL_NAMES)
    named = [field for field in schema if field.name.casefold() in wanted]
    if named and not any(form_of(field.type) or is_text(field.type) for field in named):
        listed = ", ".join(f"{field.name} ({field.type})" for field in named)
        raise InputError(
            f"{path}: {listed} can hold neither images nor paths or URLs; give bytes, a struct with bytes, lists of "
            "these, base64, or texts, or name another column with --image-column"
        )


def _image_column(holders: Sequence[str], options: SourceOptions, path: str, names: Sequence[str]) -> str | None:
    if options.image_column is not None:
        if options.image_column not in names:
            raise InputError(f"{path} has no column {options.image_column!r}; it has {', '.join(names)}")
        return options.image_column if options.image_column in holders else None
    usual = {name.casefold(): name for name in holders}
    if found := [usual[name] for name in IMAGE_NAMES if name in usual]:
        return found[0]
    if len(holders) > 1:
        raise InputError(f"{path} has bytes in {', '.join(holders)}; name the column of the images with image_column")
    return holders[0] if holders else None


@dataclass(frozen=True, kw_only=True)
class ImageTableShard(ContainerShard):
    """Row groups of a parquet file from ``start`` to before ``stop``; ``first_row`` is the number of their first row.

    Rows are called by ``id_column``, or by their numbers where it is None.
    """

    columns: ImageColumns
    start: int
    stop: int
    first_row: int
    id_column: str | None

    @property
    def identity(self) -> tuple[Any, ...]:
        """The size, which rows, and what they are called by."""
        return (self.size_bytes, self.start, self.stop, *self.columns.views, self.id_column)

    def whole_rows(self) -> Iterator[Row]:
        """A row for each of the table's; one without bytes is there as a problem."""
        extra = [name for name in (self.id_column, self.columns.url) if name is not None]
        number = self.first_row
        with open_parquet(self.uri) as table:
            groups = list(range(self.start, self.stop))
            for batch in table.iter_batches(ROWS_AT_A_TIME, row_groups=groups, columns=self.columns.leaves + extra):
                yield from self._rows(batch, number)
                number += len(batch)

    def _rows(self, batch: pa.RecordBatch, number: int) -> Iterator[Row]:
        views = [_leaf(batch, name) for name in self.columns.leaves]
        keys = _leaf(batch, self.id_column) if self.id_column else range(number, number + len(batch))
        urls = _leaf(batch, self.columns.url) if self.columns.url else [None] * len(batch)
        for *contents, key, url in zip(*views, keys, urls, strict=True):
            images = images_in(contents[0]) if self.columns.form == "several" else _each(contents)
            present = self._present(images[:MAX_VIEWS])
            uris = (str(url or f"{self.uri}#{key}"), *(f"{self.uri}#{key}:{n}" for n in range(2, len(present) + 1)))
            problem = "too_large" if len(images) > MAX_VIEWS else "" if None not in present else "fetch_failed"
            yield Row(container_id(self.label, str(key)), uris, present, problem)

    @staticmethod
    def _present(contents: Sequence[bytes | None]) -> tuple[bytes | None, ...]:
        """The first view and those that follow up to the last one there is: an item may have fewer than others."""
        last = max((n for n, content in enumerate(contents) if content is not None), default=0)
        return tuple(contents[: last + 1])


def _each(contents: Sequence[Any]) -> tuple[bytes | None, ...]:
    """The first image of each view."""
    return tuple(images_in(content)[0] for content in contents)


def _leaf(batch: pa.RecordBatch, name: str) -> list[Any]:
    """The values of a column or of a struct's field."""
    outer, _, inner = name.partition(".")
    if name in batch.schema.names:
        return list(batch[name].to_pylist())
    return [None if value is None else value[inner] for value in batch[outer].to_pylist()]


def image_table_shards(found: Found, label: str, options: SourceOptions) -> Iterator[Shard]:
    """A parquet file in parts of row groups that have about ``rows_per_shard`` rows.

    Of the file, its footer and the column of ids are read. An id column is used where its values are all there and
    different within the file; one that was named and is not so is an ``InputError``.
    """
    size = size_of(found)
    try:
        with open_parquet(found.uri) as table:
            columns = image_columns(table, options, found.uri)
            if columns is None:
                check_type(table.schema_arrow, options, found.uri)
                raise InputError(f"{found.uri} holds no images, but other files of the same input do; name it apart")
            id_column = _id_column(table, columns, options, found.uri)
            counts = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    except DAMAGE:
        yield DamagedShard(label=label, uri=found.uri, size_bytes=size, num_rows=1)
        return
    for start, stop in _groups(counts, options.rows_per_shard):
        yield ImageTableShard(
            label=label,
            uri=found.uri,
            size_bytes=size,
            columns=columns,
            id_column=id_column,
            start=start,
            stop=stop,
            first_row=sum(counts[:start]),
            num_rows=sum(counts[start:stop]),
        )


def _id_column(table: pq.ParquetFile, columns: ImageColumns, options: SourceOptions, path: str) -> str | None:
    for name in columns.ids:
        values = [
            value for batch in table.iter_batches(65536, columns=[name]) for value in _leaf(batch, name)
        ]  # fmt: skip
        if None not in values and "" not in values and len(set(map(str, values))) == len(values):
            return name
    if options.id_column is not None:
        raise InputError(f"{path}: the ids in {options.id_column!r} are not all there or not all different")
    return None


def _groups(counts: Sequence[int], rows_per_shard: int) -> Iterator[tuple[int, int]]:
    """Ranges of row groups, each as short as has ``rows_per_shard`` rows."""
    start, rows = 0, 0
    for group, count in enumerate(counts):
        rows += count
        if rows >= rows_per_shard or group == len(counts) - 1:
            if rows:
                yield start, group + 1
            start, rows = group + 1, 0
