"""A user's own labels from a CSV file."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from geo_ray.atlas.geonames import english_names
from geo_ray.atlas.labels import ROOT, STREETCLIP_TEMPLATES, Labels, as_read, caption, first_repeat, words_of
from geo_ray.errors import InputError
from geo_ray.geo.sphere import from_unit_vectors, unit_vectors

COLUMNS = ("id", "name", "parent", "latitude", "longitude", "level", "country", "region", "text", "template")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A line of the file, its fields stripped; ``latlon`` is NaN where none is given."""

    line: int
    fields: dict[str, str]
    latlon: tuple[float, float]

    @property
    def id(self) -> str:
        return self.fields["id"] or self.fields["name"]


def read_labels(path: Path) -> Labels:
    """Labels from a CSV file in UTF-8 with a header; ``InputError`` names the file, the line and the remedy.

    Columns: ``name``; ``id`` (else the name), ``parent`` (an id; empty for none), ``latitude`` and ``longitude``
    (degrees; a label with children may leave them out and lies at the spherical mean of those without), ``level`` (else
    "country" without a parent, "city" without children, "region" between), ``country`` (ISO 3166 alpha-2; else its
    parent's), ``region`` (else its parent's; a "region" has its own name), and ``text``, the caption, or ``template``
    for it, as in ``with_templates``; with neither, those three levels have StreetCLIP's. Order is free.
    """
    rows = _read(path)
    _refuse_repeats(path, rows, [row.id for row in rows], "the id {}; give each label an id of its own")
    parents = _parents(path, rows)
    order = _parents_first(path, rows, parents)
    rank = np.argsort(order)
    rows = [rows[row] for row in order]
    parents = np.array([rank[parents[row]] if parents[row] != ROOT else ROOT for row in order], np.int64)
    latlon = _positions(path, rows, parents)
    labels = _without_captions(rows, parents, latlon)
    each = zip(rows, labels.levels, words_of(labels), strict=True)
    texts = [_caption(path, row, level, words) for row, level, words in each]
    keys = list(zip(parents.tolist(), map(as_read, texts), strict=True))
    _refuse_repeats(path, rows, keys, "one parent and the caption {}, so no image can tell them apart; reword one")
    return replace(labels, texts=np.array(texts, dtype=object))


def _read(path: Path) -> list[_Row]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames or ())
            rows = [_row(path, reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable CSV file of labels in UTF-8: {error}") from error
    if not rows:
        raise InputError(f"{path} has no labels; give one a line below the header")
    return rows


def _check_header(path: Path, header: Sequence[str]) -> None:
    known = f"it may have {', '.join(COLUMNS)}"
    if "name" not in header:
        raise InputError(f"{path}, line 1: no column `name`; the first line names the columns, and {known}")
    unknown = [column for column in header if column not in COLUMNS]
    if unknown:
        raise InputError(f"{path}, line 1: unknown columns {unknown}; {known}")
    if same := first_repeat(header):
        raise InputError(f"{path}, line 1: the column {header[same[0]]!r} occurs twice; remove one")


def _row(path: Path, line: int, values: dict[str | None, str | None]) -> _Row:
    where = f"{path}, line {line}"
    if None in values or None in values.values():
        raise InputError(f"{where}: more or fewer fields than the header; quote fields that hold commas")
    fields = {column: (values.get(column) or "").strip() for column in COLUMNS}
    if not fields["name"]:
        raise InputError(f"{where}: the name is empty; give one")
    if fields["country"] and fields["country"] not in english_names():
        raise InputError(f"{where}: country {fields['country']!r} is no ISO 3166 alpha-2 code, such as FR; or leave it")
    if fields["text"] and fields["template"]:
        raise InputError(f"{where}: a text and a template; leave one of them empty")
    return _Row(line=line, fields=fields, latlon=_latlon(where, fields["latitude"], fields["longitude"]))


def _latlon(where: str, latitude: str, longitude: str) -> tuple[float, float]:
    if not latitude and not longitude:
        return np.nan, np.nan
    try:
        latlon = float(latitude), float(longitude)
    except ValueError:
        latlon = np.nan, np.nan
    if not (abs(latlon[0]) <= 90 and abs(latlon[1]) <= 180):  # NaN is not
        raise InputError(
            f"{where}: latitude {latitude!r}, longitude {longitude!r} must be degrees in [-90, 90] and [-180, 180]"
        )
    return latlon


def _refuse_repeats(path: Path, rows: list[_Row], keys: list[str] | list[tuple[int, str]], rule: str) -> None:
    if same := first_repeat(keys):
        key = keys[same[0]]
        shown = repr(key if isinstance(key, str) else key[1])
        lines = sorted((rows[same[0]].line, rows[same[1]].line))
        raise InputError(f"{path}, line {lines[1]}: shares with line {lines[0]} {rule.format(shown)}")


def _parents(path: Path, rows: list[_Row]) -> Int64[np.ndarray, "L"]:
    """Each row's parent by row, as in the file."""
    row_of = {row.id: number for number, row in enumerate(rows)}
    parents = []
    for row in rows:
        parent = row.fields["parent"]
        if parent and parent not in row_of:
            raise InputError(
                f"{path}, line {row.line}: no label has the id {parent!r} of its parent; add it, or leave it"
            )
        parents.append(row_of[parent] if parent else ROOT)
    return np.array(parents, np.int64)


def _parents_first(path: Path, rows: list[_Row], parents: Int64[np.ndarray, "L"]) -> Int64[np.ndarray, "L"]:
    """Rows by their distance from the root, else as in the file."""
    depth, at = np.zeros(len(parents), np.int64), parents.copy()
    for _ in rows:
        if (at == ROOT).all():
            return np.argsort(depth, kind="stable")
        depth += at != ROOT
        at = np.where(at == ROOT, ROOT, parents[at])
    row = rows[int(np.flatnonzero(at != ROOT)[0])]
    raise InputError(f"{path}, line {row.line}: the parents of {row.id!r} lead around in a circle; leave one out")


def _positions(path: Path, rows: list[_Row], parents: Int64[np.ndarray, "L"]) -> Float64[np.ndarray, "L 2"]:
    """Positions as given, or the spherical mean of the childless labels below."""
    latlon = np.array([row.latlon for row in rows], np.float64)
    missing, leaf = np.isnan(latlon[:, 0]), ~np.isin(np.arange(len(rows)), parents)
    if (missing & leaf).any():
        row = rows[int(np.flatnonzero(missing & leaf)[0])]
        raise InputError(f"{path}, line {row.line}: {row.id!r} has no children, so it needs a latitude and a longitude")
    below = np.where(leaf[:, None], unit_vectors(latlon), 0.0)
    for row, parent in reversed(list(enumerate(parents.tolist()))):
        if parent != ROOT:
            below[parent] += below[row]
    return np.where(missing[:, None], from_unit_vectors(below), latlon)


def _without_captions(rows: list[_Row], parents: Int64[np.ndarray, "L"], latlon: Float64[np.ndarray, "L 2"]) -> Labels:
    """The labels with what they have from their parents, and row numbers for captions."""
    inner = set(parents.tolist())
    filled: list[dict[str, str]] = []
    for number, (row, parent) in enumerate(zip(rows, parents.tolist(), strict=True)):
        above = filled[parent] if parent != ROOT else {"country": "", "region": ""}
        depth = "country" if parent == ROOT else "region" if number in inner else "city"
        level = row.fields["level"] or depth
        region = row.fields["region"] or (row.fields["name"] if level == "region" else above["region"])
        filled.append({"level": level, "region": region, "country": row.fields["country"] or above["country"]})
    return Labels(
        ids=_column(row.id for row in rows),
        names=_column(row.fields["name"] for row in rows),
        levels=_column(fields["level"] for fields in filled),
        parents=parents,
        latlon=latlon,
        countries=_column(fields["country"] for fields in filled),
        regions=_column(fields["region"] for fields in filled),
        texts=_column(str(number) for number in range(len(rows))),
    )


def _column(values: Iterable[str]) -> Shaped[np.ndarray, "L"]:
    return np.array(list(values), dtype=object)


def _caption(path: Path, row: _Row, level: str, words: dict[str, str]) -> str:
    """The row's own text, or its template filled in, or StreetCLIP's for its level."""
    template = row.fields["template"] or STREETCLIP_TEMPLATES.get(level, "")
    if not row.fields["text"] and not template:
        raise InputError(f"{path}, line {row.line}: no text and no template, and none is known for the level {level!r}")
    try:
        return row.fields["text"] or caption(template, words)
    except ValueError as error:
        raise InputError(f"{path}, line {row.line}: {error}; give a text or another template") from error
