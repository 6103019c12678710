"""Tables of text in whatever form people have them, read in pieces: CSV, TSV, lists, JSON lines, parquet."""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from geo_ray.data.fetch.policy import reason, redacted
from geo_ray.data.sources.ids import is_image_name
from geo_ray.errors import InputError
from geo_ray.remote_files import open_file, remote_errors

Piece = dict[str, list[str]]  # our column names to values of some rows

BLOCK_BYTES = 2 * 2**20  # a row must fit in it
HEAD_BYTES = 2**18
ROWS_A_PIECE = 10_000
PARQUET_ENDINGS = (".parquet", ".pq")
JSON_ENDINGS = (".jsonl", ".ndjson")
HASH = re.compile(r"[0-9a-f]{32}")
YFCC_COLUMNS = range(23, 26)  # Thomee et al. (2016), YFCC100M; later copies have a line number and a hash in front


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a text table is read: its delimiter, whether fields may be quoted, and where our columns are.

    ``columns`` maps our names to places; ``hashed`` says that ``uri`` holds YFCC100M's hashes, which stand for paths.
    """

    delimiter: str
    num_columns: int
    columns: dict[str, int]
    has_header: bool = True
    quoted: bool = True
    hashed: bool = False
    photos_only: int | None = None  # the column whose value is 0 for photos


def read_pieces(path: str, columns: dict[str, tuple[str, ...]], prefer_hash: bool = False) -> Iterator[Piece]:
    """The table in pieces, under our column names; ``columns`` lists the usual names of each, best first.

    A column that the file has not is left out, so a piece may be empty; null becomes an empty string. Raises
    ``InputError`` that names the file where it can't be read.
    """
    with _table_errors(path):
        if redacted(path).lower().endswith(PARQUET_ENDINGS):
            yield from _parquet_pieces(path, columns)
            return
        with open_file(path, "infer") as file:
            head = file.read(HEAD_BYTES)
        if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
            yield from _json_pieces(path, columns)
            return
        layout = _layout(head.decode("utf-8-sig", "replace"), columns, prefer_hash)
        with open_file(path, "infer") as file:
            yield from _csv_pieces(file, layout)


@contextmanager
def _table_errors(path: str) -> Iterator[None]:
    with remote_errors(lambda why: InputError(f"{redacted(path)} can't be read: {reason(why, path)}")):
        yield


def chosen(present: list[str], columns: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Our column names to places in a header; letters' case does not matter."""
    places = {name.strip().casefold(): place for place, name in reversed(list(enumerate(present)))}
    found = {ours: [places[name] for name in names if name in places] for ours, names in columns.items()}
    return {ours: options[0] for ours, options in found.items() if options}


def _layout(head: str, columns: dict[str, tuple[str, ...]], prefer_hash: bool) -> Layout:
    line = head.splitlines()[0] if head else ""
    delimiter = max("\t,;", key=line.count)
    if not line.count(delimiter):
        delimiter = "\x1f"  # one column; its values may have commas
    names = next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
    if found := chosen(names, columns):
        return Layout(delimiter=delimiter, num_columns=len(names), columns=found)
    return _headless(names, Layout(delimiter=delimiter, num_columns=len(names), columns={}), prefer_hash)


def _headless(first: list[str], layout: Layout, prefer_hash: bool) -> Layout:
    """The layout of a table without a header, by its first row: YFCC100M's, its hashes', or a list of images."""
    count, bare = len(first), replace(layout, has_header=False)
    if count in YFCC_COLUMNS and first[0].isdigit():
        hashed = prefer_hash and HASH.fullmatch(first[2]) is not None
        places = {"id": 0 if count == YFCC_COLUMNS[0] else 1, "uri": 2 if hashed else count - 9}
        return replace(bare, columns=places, quoted=False, hashed=hashed, photos_only=count - 1)
    if count == 2 and first[0].isdigit() and HASH.fullmatch(first[1]):
        return replace(bare, columns={"id": 0, "uri": 1}, quoted=False, hashed=True)
    located = [place for place, value in enumerate(first) if "://" in value or is_image_name(value)]
    if not located:
        return layout
    # MP-16's list is image_id,url, and its ids end in .jpg too.
    return replace(bare, columns={"uri": located[-1]} | ({"id": 0} if located[-1] else {}))


def _csv_pieces(file: Any, layout: Layout) -> Iterator[Piece]:
    names = [f"f{place}" for place in range(layout.num_columns)]
    wanted = {ours: names[place] for ours, place in layout.columns.items()}
    if layout.photos_only is not None:
        wanted["media"] = names[layout.photos_only]
    if not wanted:
        yield {}
        return
    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(
            column_names=names, skip_rows=int(layout.has_header), block_size=BLOCK_BYTES, use_threads=False
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.delimiter, quote_char='"' if layout.quoted else False, newlines_in_values=layout.quoted
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(dict.fromkeys(wanted.values())),
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
        ),
    )
    for batch in reader:
        yield _piece({ours: batch[theirs].to_pylist() for ours, theirs in wanted.items()}, layout)


def _piece(piece: Piece, layout: Layout) -> Piece:
    if (media := piece.pop("media", None)) is not None:
        photos = [place for place, kind in enumerate(media) if kind == "0"]
        piece = {name: [values[place] for place in photos] for name, values in piece.items()}
    if layout.hashed:
        piece["uri"] = [f"{value[:3]}/{value[3:6]}/{value}.jpg" for value in piece["uri"]]
    return piece


def _json_pieces(path: str, columns: dict[str, tuple[str, ...]]) -> Iterator[Piece]:
    """Pieces of a file with one JSON object a line; all have the columns that the first line has."""
    with open_file(path, "infer") as opened, io.TextIOWrapper(opened, "utf-8-sig") as file:
        records = (_record(number, line) for number, line in enumerate(file, 1) if line.strip())
        first = next(records)
        names = {ours: list(first)[place] for ours, place in chosen(list(first), columns).items()}
        rest = itertools.chain([first], records)
        while some := list(itertools.islice(rest, ROWS_A_PIECE)):
            yield {ours: [_text(record.get(theirs)) for record in some] for ours, theirs in names.items()}


def _record(number: int, line: str) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is no JSON object")
    return record


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _parquet_pieces(path: str, columns: dict[str, tuple[str, ...]]) -> Iterator[Piece]:
    with open_file(path) as file, closing(pq.ParquetFile(file)) as table:
        present = table.schema_arrow.names
        names = {ours: present[place] for ours, place in chosen(present, columns).items()}
        if not names:
            yield {}
            return
        for batch in table.iter_batches(ROWS_A_PIECE, columns=list(dict.fromkeys(names.values()))):
            yield {ours: [_text(value) for value in batch[theirs].to_pylist()] for ours, theirs in names.items()}
