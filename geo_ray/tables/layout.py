"""How a text table is laid out: its delimiter, its quotes, and where our columns are, by its first lines."""

import csv
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from geo_ray.tables.ids import is_image_name

LIST = "\x1f"  # the delimiter of a list: none, as its values may have commas
LINES_LOOKED_AT = 200
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


def layout_of(
    head: str, columns: dict[str, tuple[str, ...]], prefer_hash: bool, is_there: Callable[[str], bool]
) -> Layout:
    """The layout of a table that begins with ``head``; see ``text.read_pieces`` for the other arguments."""
    lines = [line for line in head.splitlines()[:LINES_LOOKED_AT] if line.strip()]
    line = lines[0] if lines else ""
    delimiter = _delimiter_of(line)
    names = _fields(line, delimiter)
    found = chosen(names, columns)
    if not found and _is_list(lines, delimiter, is_there):
        delimiter, names = LIST, [unquoted(line)]
    quoted = not (delimiter == "\t" and all(len(one.split("\t")) == len(names) for one in lines))
    layout = Layout(delimiter=delimiter, num_columns=len(names), columns=found, quoted=quoted)
    return layout if found else _headless(names, layout, prefer_hash)


def header_of(line: str) -> list[str]:
    """The names in a table's first line."""
    return _fields(line, _delimiter_of(line))


def _delimiter_of(line: str) -> str:
    most = max("\t,;", key=line.count)
    return most if most in line else LIST


def _fields(line: str, delimiter: str) -> list[str]:
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return [unquoted(field) for field in fields]


def unquoted(text: str) -> str:
    """A cell without the spaces about it, and without quotes about all of it."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', ""):
        return text[1:-1].replace('""', '"').strip()
    return text


def chosen(present: Sequence[str], columns: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Our column names to places in a header; letters' case and spaces about a name do not matter."""
    places = {name.strip().casefold(): place for place, name in reversed(list(enumerate(present)))}
    found = {ours: [places[name] for name in names if name in places] for ours, names in columns.items()}
    return {ours: options[0] for ours, options in found.items() if options}


def _is_list(lines: list[str], delimiter: str, is_there: Callable[[str], bool]) -> bool:
    """Whether lines without a header are names that have the delimiter in them.

    They are where a file is called as a line is, where lines have differently many, or where a space follows each.
    """
    if delimiter in ("\t", LIST) or not is_image_name(unquoted(lines[0])):
        return False
    with_some = [line for line in lines if delimiter in line]
    if any(is_there(line.strip()) for line in itertools.islice(with_some, 5)):
        return True
    if len({len(_fields(line, delimiter)) for line in lines}) > 1:
        return True
    return all(f"{delimiter} " in line and '"' not in line for line in with_some)


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
