"""Few images, listed at once: what the command line answers directly, and blocks and batches of them."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from geo_ray.data.fetch.policy import DEFAULT_POLICY, FetchPolicy
from geo_ray.data.sources.kinds import kind_of_found
from geo_ray.data.sources.listing import Found, kind_of, match, single, walk
from geo_ray.data.sources.manifests import is_table, read_manifest
from geo_ray.data.sources.options import SourceOptions
from geo_ray.data.sources.reading import Reader
from geo_ray.data.sources.rows import Input, batch_of
from geo_ray.errors import InputError
from geo_ray.pipeline.columns import Batch, view_columns
from geo_ray.remote_files import redacted
from geo_ray.tables.ids import SUFFIXES, readable


def num_views(inputs: Sequence[Input]) -> int:
    """The most views that one of the items has."""
    return max((len(item.views) for item in inputs), default=1)


def list_inputs(
    inputs: Sequence[str], views_by: str | None = None, options: SourceOptions | None = None
) -> list[Input]:
    """The images that folders, files, glob patterns or URIs name, each once, sorted within each input.

    A folder gives every file below it with an image suffix, and every folder so named, which will be answered as a
    problem; a file that is named outright needs no suffix. ``image_id`` is the path below the input, or the whole URI
    where two inputs would give the same id. A table (CSV, TSV, JSON lines, parquet) is a manifest: its rows are images,
    or, with the same value in the column ``views_by``, views of one item (``read_manifest``). Raises ``InputError``
    that names an input which holds nothing. For containers and for many images, see ``open_sources``.
    """
    options = options or SourceOptions()
    tables = [text for text in inputs if is_table(text)]
    if views_by is not None and len(tables) < len(inputs):
        other = next(text for text in inputs if text not in tables)
        raise InputError(f"views are grouped by a column of a manifest, and {other!r} is none; give a .csv or .parquet")
    if tables:
        return distinct([item for text in inputs for item in _list_any(text, views_by, options)])
    listed: dict[str, str] = {}
    for text in inputs:
        listed |= {item.uri: listed.get(item.uri, item.image_id) for item in _list_any(text, None, options)}
    ids = list(listed.values())
    clash = len(set(ids)) < len(ids)
    return [Input(image_id=uri if clash else image_id, uri=uri) for uri, image_id in listed.items()]


def distinct(items: list[Input]) -> list[Input]:
    """The items, whose ids must differ."""
    seen: set[str] = set()
    for item in items:
        if item.image_id in seen:
            raise InputError(f"the id {item.image_id!r} is there twice; give each item an id of its own")
        seen.add(item.image_id)
    return items


def _list_any(text: str, views_by: str | None, options: SourceOptions) -> list[Input]:
    """The items of one input; ``InputError`` where there are none."""
    if is_table(text):
        if items := read_manifest(text, views_by, options):
            return items
        raise no_images(text)
    found = list_images(text)
    if not found:
        raise no_images(text)
    return [Input(image_id=readable(one.path), uri=one.uri) for one in found]


def list_images(text: str) -> list[Found]:
    """The image files that one input names; a pattern that matches none by its suffix names all that it matches."""
    kind = kind_of(text)
    if kind == "file":
        return [single(text)]
    found = list(match(text) if kind == "pattern" else walk(text))
    images = [one for one in found if kind_of_found(one) == "image"]
    return found if kind == "pattern" and not images else images


def no_images(text: str) -> InputError:
    """The error of an input that holds nothing."""
    return InputError(
        f"no images in {redacted(text)!r}: name a folder, a file, a glob pattern or a URI with "
        f"{', '.join(sorted(SUFFIXES))} files, or a table of them"
    )


def input_blocks(inputs: Sequence[Input], rows_per_block: int) -> list[pa.Table]:
    """The inputs as tables of ``image_id`` and ``uri``."""
    ids = pa.array([item.image_id for item in inputs], pa.string())
    views = {name: pa.array(uris, pa.string()) for name, uris in view_uris(inputs).items()}
    table = pa.table({"image_id": ids} | views)
    return [table.slice(start, rows_per_block) for start in range(0, len(inputs), rows_per_block)]


def input_batches(inputs: Sequence[Input], rows_per_batch: int) -> Iterator[Batch]:
    """The inputs as batches for ``fetch``, in process."""
    for block in input_blocks(inputs, rows_per_batch):
        yield {name: block[name].to_numpy(zero_copy_only=False) for name in block.column_names}


def view_uris(inputs: Sequence[Input]) -> dict[str, list[str | None]]:
    """Columns ``uri``, ``uri_2`` and so on with where each view lies, None where an item has fewer."""
    views = [item.views for item in inputs]
    names = (name.replace("bytes", "uri") for name in view_columns(num_views(inputs)))
    return {name: [v[n] if n < len(v) else None for v in views] for n, name in enumerate(names)}


def fetch(batch: Batch, policy: FetchPolicy = DEFAULT_POLICY) -> Batch:
    """The batch with ``bytes`` (``bytes_2`` ...) read from each ``uri``, or with the ``problem`` that stopped it.

    All are read at a time that ``policy`` and the number of threads allow.
    """
    names = [name for name in batch if name.startswith("uri")]
    inputs = [_input(uris) for uris in zip(*(batch[name] for name in names), strict=True)]
    with Reader(policy) as reader:
        read = batch_of(list(reader.rows(inputs)), len(names))
    return batch | {name: read[name] for name in read if name not in ("image_id", *names)}


def _input(uris: Sequence[str | None]) -> Input:
    first, *more = (uri for uri in uris if uri is not None)
    return Input(image_id="", uri=first, more_views=tuple(more))
