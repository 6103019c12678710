"""Lines of a text table as rows of cells: no row is lost, and none swallows the next."""

import csv
from collections.abc import Iterable, Iterator

from geo_ray.tables.layout import LIST, Layout, unquoted

MAX_LINES = 100  # of one row, within quotes


def cells_of(lines: Iterable[str], layout: Layout) -> Iterator[list[str]]:
    """The rows, each of ``layout.num_columns`` cells; blank lines are none.

    Cells that a row lacks are empty. Those that it has too many of belong to a last column of images, whose names may
    have the delimiter in them, or to nothing. A quote that nothing closes is a letter.
    """
    for line, literal in _rows(lines, layout.quoted):
        if layout.delimiter == LIST:
            cells = [unquoted(line)]
        elif literal:
            cells = [unquoted(cell) for cell in line.split(layout.delimiter)]
        else:
            reader = csv.reader([line], delimiter=layout.delimiter, skipinitialspace=True)
            cells = [unquoted(cell) if cell[:1] in ' "' or cell[-1:] in ' "' else cell for cell in next(reader)]
        yield _fitted(cells, line, layout)


def _rows(lines: Iterable[str], quoted: bool) -> Iterator[tuple[str, bool]]:
    """Lines, those joined that a quote goes on over, and whether their quotes are letters."""
    held: list[str] = []
    for line in lines:
        if not held and not line.strip():
            continue
        if not quoted:
            yield line.rstrip("\r\n"), True
            continue
        held.append(line)
        if sum(one.count('"') for one in held) % 2 == 0:
            yield "".join(held).rstrip("\r\n"), False
            held = []
        elif len(held) > MAX_LINES:
            yield from _literal(held)
            held = []
    yield from _literal(held)


def _literal(held: list[str]) -> Iterator[tuple[str, bool]]:
    """Lines of which the first has a quote that nothing closes."""
    if held:
        yield held[0].rstrip("\r\n"), True
        yield from _rows(held[1:], quoted=True)


def _fitted(cells: list[str], line: str, layout: Layout) -> list[str]:
    more = layout.num_columns - len(cells)
    if more >= 0:
        return cells + [""] * more
    last = layout.num_columns - 1
    if layout.columns.get("uri") == last and any(cells[last + 1 :]):
        cells[last] = unquoted(line.split(layout.delimiter, last)[last])
    return cells[: layout.num_columns]
