"""Tables in whatever form people have them, read in pieces: CSV, TSV, lists, JSON lines, JSON arrays, parquet."""

import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow.parquet as pq

from geo_ray.errors import InputError
from geo_ray.remote_files import open_file, reason, redacted, remote_errors
from geo_ray.tables.encodings import as_text
from geo_ray.tables.layout import Layout, chosen, header_of, layout_of
from geo_ray.tables.lines import cells_of

Piece = dict[str, list[str]]  # our column names to values of some rows

HEAD_CHARS = 2**18
EXCEL_SEP = re.compile(r"\A\s*\"?sep=[,;\t|]\"?[\r\n]+", re.I)  # a first line that tells Excel the delimiter
ROWS_A_PIECE = 10_000
PARQUET_ENDINGS = (".parquet", ".pq")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
TEXT_ENDINGS = (".csv", ".tsv", ".txt", *JSON_ENDINGS)
LISTS = ("images", "data", "rows")  # the one array that an object around it may have


def read_pieces(
    path: str,
    columns: dict[str, tuple[str, ...]],
    prefer_hash: bool = False,
    is_there: Callable[[str], bool] = lambda name: False,
) -> Iterator[Piece]:
    """The table in pieces, under our column names; ``columns`` lists the usual names of each, best first.

    A column that the file has not is left out, so a piece may be empty; null, and what a bad row lacks, becomes an
    empty string: no row is lost. Spaces about a value are not its. ``is_there`` says of a line whether a file is called
    so, which tells a list of names with commas from a table. Raises ``InputError`` that names the file where it can't
    be read.
    """
    with table_errors(path):
        if redacted(path).lower().endswith(PARQUET_ENDINGS):
            yield from _parquet_pieces(path, columns)
            return
        with open_file(path, "infer") as opened, as_text(opened) as file:
            head = EXCEL_SEP.sub("", file.read(HEAD_CHARS))
            start = head.lstrip()[:1]
            rest = itertools.chain(io.StringIO(_whole(head, file), newline=""), file)
            if start in {"{", "["}:
                yield from _record_pieces(_array(rest) if start == "[" else _objects(rest), columns)
            else:
                yield from _line_pieces(rest, layout_of(head, columns, prefer_hash, is_there))


def column_names(path: str) -> list[str]:
    """What a table of text calls its columns, by its first line."""
    with table_errors(path), open_file(path, "infer") as opened, as_text(opened) as file:
        line = _whole(file.read(1), file)
    return list(_record(line)) if line.lstrip().startswith("{") else header_of(line)


@contextmanager
def table_errors(path: str) -> Iterator[None]:
    """What reading a table can raise, as an ``InputError`` that names it."""
    with remote_errors(lambda why: InputError(f"{redacted(path)} can't be read: {reason(why, path)}")):
        yield


def _whole(head: str, file: Any) -> str:
    """The head, to the end of the line that it ends in."""
    return head if head.endswith("\n") else head + file.readline()


def _line_pieces(lines: Iterable[str], layout: Layout) -> Iterator[Piece]:
    wanted = dict(layout.columns)
    if layout.photos_only is not None:
        wanted["media"] = layout.photos_only
    rows = cells_of(lines, layout)
    if layout.has_header:
        next(rows, None)
    if not wanted:
        yield {}
        return
    while some := list(itertools.islice(rows, ROWS_A_PIECE)):
        yield _piece({ours: [row[place] for row in some] for ours, place in wanted.items()}, layout)


def _piece(piece: Piece, layout: Layout) -> Piece:
    if (media := piece.pop("media", None)) is not None:
        photos = [place for place, kind in enumerate(media) if kind == "0"]
        piece = {name: [values[place] for place in photos] for name, values in piece.items()}
    if layout.hashed:
        piece["uri"] = [f"{value[:3]}/{value[3:6]}/{value}.jpg" for value in piece["uri"]]
    return piece


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One JSON object a line, empty for a line that is none; or the array in one object that fills the file."""
    lines = (line for line in lines if line.strip())
    first, second = next(lines), next(lines, "")
    record = _record(first)
    if second and (record or first.strip() == "{}"):
        yield record
        yield from map(_record, itertools.chain([second], lines))
        return
    whole = json.loads(first + second + "".join(lines))
    if not any(isinstance(value, list) for value in whole.values()):
        yield whole
        return
    arrays = [whole[name] for name in LISTS if isinstance(whole.get(name), list)]
    if not arrays:
        raise ValueError("it is one JSON object; give an array of objects, or an object a line")
    yield from (item if isinstance(item, dict) else {} for item in arrays[0])


def _array(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects of an array, empty for what is none; a text stands for the path of an image."""
    for item in json.loads("".join(lines)):
        yield item if isinstance(item, dict) else {"path": item} if isinstance(item, str) else {}


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _record_pieces(records: Iterator[dict[str, Any]], columns: dict[str, tuple[str, ...]]) -> Iterator[Piece]:
    """Pieces of records; all have the columns that the first piece's records have."""
    names: dict[str, str] = {}
    while some := list(itertools.islice(records, ROWS_A_PIECE)):
        names = names or chosen_names(list(dict.fromkeys(key for record in some for key in record)), columns)
        yield {ours: [_text(record.get(theirs)) for record in some] for ours, theirs in names.items()}


def chosen_names(present: Sequence[str], columns: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Our column names to those that are present, as ``layout.chosen`` finds them."""
    return {ours: present[place] for ours, place in chosen(present, columns).items()}


def _text(value: Any) -> str:
    return "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value, default=str)


def _parquet_pieces(path: str, columns: dict[str, tuple[str, ...]]) -> Iterator[Piece]:
    with open_file(path) as file, closing(pq.ParquetFile(file)) as table:
        names = chosen_names(table.schema_arrow.names, columns)
        if not names:
            yield {}
            return
        for batch in table.iter_batches(ROWS_A_PIECE, columns=list(dict.fromkeys(names.values()))):
            yield {ours: [_text(value) for value in batch[theirs].to_pylist()] for ours, theirs in names.items()}


def number(text: str) -> float:
    """The number that a cell holds, also with a decimal comma; ``ValueError`` where it holds none."""
    return float(text.replace(",", ".") if re.fullmatch(r"[+-]?\d*,\d+", text) else text)
