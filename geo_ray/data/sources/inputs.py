"""From what the user names to rows: one row an image, ``image_id``, ``uri`` and, once fetched, ``bytes``."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa

from geo_ray.errors import REMOTE_ERRORS, InputError
from geo_ray.evaluation.tables import PARQUET_SUFFIXES, read_texts
from geo_ray.pipeline.columns import MAX_VIEWS, Batch, view_columns

MANIFEST_COLUMNS = {
    "uri": ("uri", "path", "file", "filename", "file_name", "image", "url", "img_file"),
    "id": ("image_id", "id", "img_id", "photo_id", "key"),
}
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".jp2"})


@dataclass(frozen=True, kw_only=True)
class Input:
    """One item that was asked for: its id within the run, where its image lies, and those of further views of it."""

    image_id: str
    uri: str
    more_views: tuple[str, ...] = ()

    @property
    def views(self) -> tuple[str, ...]:
        """Where all its images lie."""
        return (self.uri, *self.more_views)


def num_views(inputs: Sequence[Input]) -> int:
    """The most views that one of the items has."""
    return max((len(item.views) for item in inputs), default=1)


def list_inputs(inputs: Sequence[str], views_by: str | None = None) -> list[Input]:
    """The images that folders, files, glob patterns or URIs name, each once, sorted within each input.

    A folder gives every file below it with an image suffix, and every folder so named, which will be answered as a
    problem; a file that is named outright needs no suffix. ``image_id`` is the path below the input, or the whole URI
    where two inputs would give the same id. A table (CSV, TSV, parquet) is a manifest: its rows are images, or, with
    the same value in the column ``views_by``, views of one item (``read_manifest``). Raises ``InputError`` that names
    an input which holds nothing.
    """
    tables = [text for text in inputs if is_table(text)]
    if views_by is not None and len(tables) < len(inputs):
        other = next(text for text in inputs if text not in tables)
        raise InputError(f"views are grouped by a column of a manifest, and {other!r} is none; give a .csv or .parquet")
    if tables:
        return _distinct([item for text in inputs for item in _list_any(text, views_by)])
    listed: dict[str, str] = {}
    for text in inputs:
        listed |= {item.uri: listed.get(item.uri, item.image_id) for item in _list_any(text)}
    ids = list(listed.values())
    clash = len(set(ids)) < len(ids)
    return [Input(image_id=uri if clash else image_id, uri=uri) for uri, image_id in listed.items()]


def is_table(text: str) -> bool:
    """Whether an input is a table of images, by its suffix."""
    return text.lower().removesuffix(".gz").removesuffix(".bz2").endswith((".csv", ".tsv", *PARQUET_SUFFIXES))


def _distinct(items: list[Input]) -> list[Input]:
    """The items, whose ids must differ."""
    seen: set[str] = set()
    for item in items:
        if item.image_id in seen:
            raise InputError(f"the id {item.image_id!r} is there twice; give each item an id of its own")
        seen.add(item.image_id)
    return items


def _list_any(text: str, views_by: str | None = None) -> list[Input]:
    """The items of one input; ``InputError`` where there are none."""
    if is_table(text):
        return read_manifest(text, views_by)
    found = [Input(image_id=image_id, uri=uri) for image_id, uri in _list_one(text)]
    if not found:
        raise InputError(
            f"no images in {text!r}: name a folder, a file, a glob pattern or a URI with "
            f"{', '.join(sorted(SUFFIXES))} files, or a table of them"
        )
    return found


def read_manifest(path: str, views_by: str | None = None) -> list[Input]:
    """The images that a table names, one a row, or one item for each value of the column ``views_by``.

    A path is relative to the table's folder. An item's id is its row's, or else its path as written; that of several
    views is the value they share. Raises ``InputError`` that names what can't be used.
    """
    columns = MANIFEST_COLUMNS if views_by is None else MANIFEST_COLUMNS | {"item": (views_by.casefold(),)}
    table = read_texts(path, columns)
    if "uri" not in table:
        raise InputError(f"{path} has no column for the image; call it uri (also known: "
                         f"{', '.join(MANIFEST_COLUMNS['uri'][1:])})")  # fmt: skip
    if views_by is not None and "item" not in table:
        raise InputError(f"{path} has no column {views_by!r} to group views by")
    if missing := table["uri"].count(""):
        raise InputError(f"{path}: {missing} of {len(table['uri'])} rows name no image; remove them")
    ids = table.get("item") or table.get("id") or table["uri"]
    items: dict[str, list[str]] = {}
    for image_id, uri in zip(ids, table["uri"], strict=True):
        items.setdefault(image_id, []).append(_beside(path, uri))
    return [_item(path, image_id, uris, views_by) for image_id, uris in items.items()]


def _item(path: str, image_id: str, uris: list[str], views_by: str | None) -> Input:
    allowed = 1 if views_by is None else MAX_VIEWS
    if not image_id or len(uris) > allowed:
        what = f"the id {image_id!r} has {len(uris)} rows" if image_id else f"{len(uris)} rows have no id"
        remedy = (
            f"an item has at most {MAX_VIEWS} views" if views_by else "group views of one item with --views-by COLUMN"
        )
        raise InputError(f"{path}: {what}; {remedy}")
    return Input(image_id=image_id, uri=uris[0], more_views=tuple(uris[1:]))


def _beside(table: str, uri: str) -> str:
    """A path as written in a table, from the table's folder."""
    if "://" in uri or Path(uri).is_absolute():
        return uri
    return f"{table.rsplit('/', 1)[0]}/{uri}" if "://" in table else str((Path(table).parent / uri).absolute())


def _list_one(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of id and URI."""
    if "://" in text:
        yield from _list_remote(text)
        return
    path = Path(text)
    if path.is_dir():
        for item in sorted(path.rglob("*")):
            if item.suffix.lower() in SUFFIXES:
                yield item.relative_to(path).as_posix(), str(item.absolute())
    elif path.exists():
        yield path.name, str(path.absolute())
    elif glob.has_magic(text):
        for name in sorted(glob.glob(text, recursive=True)):
            yield name, str(Path(name).absolute())
    else:
        raise InputError(f"{text!r} does not exist; name a folder, a file, a glob pattern or a URI")


def _list_remote(text: str) -> Iterator[tuple[str, str]]:
    try:
        fs, root = fsspec.core.url_to_fs(text)
        if glob.has_magic(root):
            for name in sorted(fs.glob(root)):
                yield name, fs.unstrip_protocol(name)
            return
        names = sorted(fs.find(root))
    except REMOTE_ERRORS as error:
        raise InputError(f"{text!r} can't be listed ({error}); check the address and your credentials") from error
    for name in names:
        if name == root or Path(name).suffix.lower() in SUFFIXES:
            yield name.removeprefix(root).strip("/") or Path(name).name, fs.unstrip_protocol(name)


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


def fetch(batch: Batch) -> Batch:
    """The batch with ``bytes`` (``bytes_2`` ...) read from each ``uri``, or with the ``problem`` that stopped it."""
    problems = np.full(len(batch["uri"]), "", dtype=object)
    contents: Batch = {}
    for name in (name for name in batch if name.startswith("uri")):
        column = contents[name.replace("uri", "bytes")] = np.empty(len(problems), object)
        for row, uri in enumerate(batch[name]):
            if uri is not None:
                column[row], problem = read_bytes(uri)
                problems[row] = problems[row] or problem
    return batch | contents | {"problem": problems}


def read_bytes(uri: str) -> tuple[bytes | None, str]:
    """The bytes behind a path or URI and an empty string, or None and the code of the problem."""
    try:
        if "://" not in uri:
            return Path(uri).read_bytes(), ""
        with fsspec.open(uri, "rb") as file:
            return file.read(), ""
    except IsADirectoryError:
        return None, "not_a_file"
    except REMOTE_ERRORS:
        return None, "fetch_failed"
