"""Tables that name images: their rows as inputs, checked for ids that are there twice, and what they may name."""

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from urllib.parse import urljoin

import numpy as np

from geo_ray.data.sources.options import SourceOptions
from geo_ray.data.sources.reading import Access
from geo_ray.data.sources.rows import Input
from geo_ray.errors import InputError
from geo_ray.pipeline.columns import MAX_VIEWS
from geo_ray.remote_files import is_url, redacted
from geo_ray.tables.text import JSON_ENDINGS, PARQUET_ENDINGS, Piece, read_pieces

PATH_NAMES: tuple[str, ...] = (
    "uri", "path", "file", "filename", "file_name", "image", "img_file", "image_path", "image_file", "filepath",
    "file_path",
)  # fmt: skip
URL_NAMES: tuple[str, ...] = (
    "url",
    "image_url",
    "download_url",
    "url_o",
    "url_l",
    "url_c",
    "url_z",
)  # Flickr's from large to small
ID_NAMES: tuple[str, ...] = ("image_id", "id", "img_id", "photo_id", "key")


def is_table(text: str) -> bool:
    """Whether an input is a table of images, by its suffix."""
    bare = text.lower().removesuffix(".gz").removesuffix(".bz2")
    return bare.endswith((".csv", ".tsv", *JSON_ENDINGS, *PARQUET_ENDINGS))


class _Ids:
    """Ids of tables' rows as they are read: a path that stands for its row's id gets a number the second time.

    ``repeated`` are the hashes of paths that are known to be there more than once; None counts all.
    """

    def __init__(self, repeated: frozenset[int] | None = None) -> None:
        self._repeated = repeated
        self._counts: Counter[str] = Counter()
        self._row = 0

    def __call__(self, piece: Piece) -> list[str]:
        """The ids of a piece's rows."""
        start, self._row = self._row, self._row + len(piece["uri"])
        named = piece.get("item") or piece.get("id")
        ids = named if named is not None else [self._own(uri) for uri in piece["uri"]]
        return [one or f"(row {number})" for number, one in enumerate(ids, start + 1)]

    def _own(self, uri: str) -> str:
        if not uri or (self._repeated is not None and hash(uri) not in self._repeated):
            return uri
        self._counts[uri] += 1
        return uri if self._counts[uri] == 1 else f"{uri}~{self._counts[uri]}"


def read_manifest(path: str, views_by: str | None = None, options: SourceOptions | None = None) -> list[Input]:
    """The images that a table names, one a row, or one item for each value of the column ``views_by``.

    A path is relative to the table's folder or ``image_folder``. An item's id is its row's, or else its path as
    written; that of several views is the value they share. Raises ``InputError`` that names what can't be used, which
    includes a local file outside the folder that the table may name.
    """
    options = options or SourceOptions()
    items: dict[str, list[str]] = {}
    for image_id, uris in _manifest_rows(path, options, views_by, _Ids()):
        if image_id in items and views_by is None:
            raise InputError(f"{redacted(path)}: the id {image_id!r} has 2 rows; group views of one item with "
                             "--views-by COLUMN")  # fmt: skip
        items.setdefault(image_id, []).extend(uris)
    inputs = [_item(path, image_id, uris) for image_id, uris in items.items()]
    _check_allowed(path, inputs, access_of(path, options))
    return inputs


def manifest_inputs(
    paths: Iterable[str], options: SourceOptions, repeated: frozenset[int]
) -> Iterator[Iterator[Input]]:
    """The rows of each table as inputs, while it is read; errors are those of ``read_manifest``, but for ids.

    ``repeated`` is what ``check_ids`` found.
    """
    ids = _Ids(repeated)
    for path in paths:
        yield (_item(path, image_id, uris) for image_id, uris in _manifest_rows(path, options, None, ids))


def access_of(path: str, options: SourceOptions) -> Access:
    """What a manifest may name: one that lies elsewhere no local file, another those below its root."""
    if "://" in path:
        return Access(root=None)
    folder = _base_of(path, options.image_folder)
    return Access(root=options.allowed_root or (None if "://" in folder else folder))


def check_ids(paths: Iterable[str], options: SourceOptions) -> tuple[int, int, frozenset[int]]:
    """How many rows the tables have together, the most views of one, and the hashes of paths that are there twice.

    Reads the tables through, which takes some 3 s a million rows and 32 bytes a row. Raises ``InputError`` that names
    an id of a column of ids which is there twice.
    """
    paths = list(paths)
    hashes, num_views = [np.empty(0, np.int64)], 1
    for path in paths:
        for piece in _pieces(path, options, None):
            hashes.append(np.fromiter(map(hash, _named(piece)), np.int64))
            num_views = max(num_views, sum(name.startswith("uri") for name in piece))
    ordered = np.concatenate(hashes)
    del hashes
    ordered.sort()
    repeated = frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if repeated:
        _check_repeated(paths, options, repeated)
    return len(ordered), num_views, repeated


def _named(piece: Piece) -> list[str]:
    return piece.get("id") or piece["uri"]


def _check_repeated(paths: Iterable[str], options: SourceOptions, hashes: frozenset[int]) -> None:
    """Refuse an id of a column of ids that is there twice; different ids can have the same hash."""
    seen: set[str] = set()
    for path in paths:
        for piece in _pieces(path, options, None):
            for image_id in piece.get("id", ()):
                if image_id and hash(image_id) in hashes:
                    if image_id in seen:
                        raise InputError(f"{redacted(path)}: the id {image_id!r} is there twice; give each item an id "
                                         "of its own, or group views of one item with --views-by COLUMN")  # fmt: skip
                    seen.add(image_id)


def _manifest_rows(
    path: str, options: SourceOptions, views_by: str | None, ids: _Ids
) -> Iterator[tuple[str, list[str]]]:
    """Ids and places of the rows' images; a row that names none has one empty place."""
    base = _base_of(path, options.image_folder)
    for piece in _pieces(path, options, views_by):
        views = [piece[name] for name in piece if name.startswith("uri")]
        for image_id, *uris in zip(ids(piece), *views, strict=True):
            yield image_id, [_beside(base, uri) for uri in uris if uri] or [""]


def _pieces(path: str, options: SourceOptions, views_by: str | None) -> Iterator[Piece]:
    """Pieces of the table that have all that is needed; an ``InputError`` says what is not there."""
    columns = _columns(options, views_by)
    base = _base_of(path, options.image_folder)
    for piece in read_pieces(path, columns, options.image_folder is not None, partial(_is_there, base)):
        if "uri" not in piece:
            break
        if views_by is not None and "item" not in piece:
            raise InputError(f"{redacted(path)} has no column {views_by!r} to group views by")
        if options.id_column is not None and "id" not in piece:
            raise InputError(f"{redacted(path)} has no column {options.id_column!r} for the ids")
        yield piece
    else:
        return
    wanted = options.image_column or columns["uri"][0]
    others = "" if options.image_column else f" (also known: {', '.join(columns['uri'][1:])}), or name it"
    raise InputError(f"{redacted(path)} has no column for the image; call it {wanted}{others}")


def _columns(options: SourceOptions, views_by: str | None) -> dict[str, tuple[str, ...]]:
    """The usual names of the columns; further views have the same name with _2, _3 and so on."""
    named = (options.image_column.casefold(),) if options.image_column else PATH_NAMES + URL_NAMES
    ids = (options.id_column.casefold(),) if options.id_column else ID_NAMES
    columns = {"uri": named, "id": ids}
    for view in range(2, MAX_VIEWS + 1):
        columns[f"uri_{view}"] = tuple(f"{name}_{view}" for name in named)
    return columns if views_by is None else columns | {"item": (views_by.casefold(),)}


def _item(path: str, image_id: str, uris: list[str]) -> Input:
    if len(uris) > MAX_VIEWS:
        raise InputError(f"{redacted(path)}: the id {image_id!r} has {len(uris)} rows; an item has at most "
                         f"{MAX_VIEWS} views")  # fmt: skip
    return Input(image_id=image_id, uri=uris[0], more_views=tuple(uris[1:]))


def _base_of(table: str, folder: str | None) -> str:
    """Where a table's paths start from."""
    if folder is not None and "://" not in folder:
        return os.path.abspath(folder)
    return folder or (table.rpartition("/")[0] if "://" in table else os.path.dirname(os.path.abspath(table)))


def _beside(base: str, uri: str) -> str:
    """A path as written in a table, from where its paths start; what would leave a remote folder stays as it is."""
    if "://" in uri:
        return uri
    if uri.startswith("/"):
        return _as_on_disk("/", uri)
    if is_url(base):
        return urljoin(f"{base}/", uri)
    if "://" not in base:
        return _as_on_disk(base, uri)
    return uri if posixpath.normpath(uri).startswith("..") else f"{base.rstrip('/')}/{uri}"


def _is_there(base: str, name: str) -> bool:
    """Whether a local file is called so."""
    return "://" not in base and os.path.lexists(os.path.join(base, name))


def _as_on_disk(base: str, name: str) -> str:
    """A local path: as it is written, or how the file there has it.

    macOS takes letters apart (NFD) that others keep together (NFC), and Windows' paths have backslashes; where neither
    is there either, the path is as it is written.
    """
    written = os.path.join(base, name)
    if (name.isascii() and "\\" not in name) or os.path.lexists(written):
        return written
    for one in dict.fromkeys((name, name.replace("\\", "/"))):
        for form in ("NFC", "NFD"):
            if os.path.lexists(path := os.path.join(base, unicodedata.normalize(form, one))):
                return path
    return written


def _check_allowed(path: str, inputs: list[Input], access: Access) -> None:
    refused = [uri for item in inputs for uri in item.views if uri and not access.allowed(uri)]
    if not refused:
        return
    others = f" and {len(refused) - 1} others" if len(refused) > 1 else ""
    shown = f"{redacted(path)} names {redacted(refused[0])!r}{others}"
    if access.root is None:
        raise InputError(f"{shown}; a table that lies elsewhere can name URLs and objects, but no local files; copy it")
    raise InputError(f"{shown} outside {access.root!r}, the only folder that it may name files in; "
                     "name another with allowed_root")  # fmt: skip
