"""Predictions and truth, read from the tables that people have."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from jaxtyping import Bool, Float64, Int, Shaped

from geo_ray.errors import InputError
from geo_ray.geo.sphere import check_latlon
from geo_ray.remote_files import CHECK, filesystem, remote_errors
from geo_ray.tables.text import TEXT_ENDINGS, chosen_names, column_names, number, read_pieces

# The usual names of a column, best first, compared without regard to case.
TRUTH_COLUMNS = {
    "image_id": ("image_id", "id", "img_id", "img_file", "image", "photo_id", "key", "file", "filename", "file_name"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "lng", "long"),
    "country": ("country_code", "country", "iso2", "cc", "country_name"),
}
PROBABILITIES = ("probability", "region_probability", "country_probability")
OPTIONAL_NUMBERS = (*PROBABILITIES, "radius_km_50", "radius_km_90", "unlike", "cell_latitude", "cell_longitude")
OPTIONAL_TEXTS = ("uri", "cell_id", "region", "place", "problem", "bundle_fingerprint")
PREDICTION_COLUMNS = TRUTH_COLUMNS | {name: (name,) for name in (*OPTIONAL_NUMBERS, *OPTIONAL_TEXTS)}
REQUIRED = ("image_id", "latitude", "longitude")
NUMBERS = ("latitude", "longitude", *OPTIONAL_NUMBERS)
PARQUET_SUFFIXES = (".parquet", ".geoparquet", ".pq")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some row groups of a parquet file of predictions, and which rows of all they are."""

    file: str
    row_groups: tuple[int, ...]
    first_row: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The answers of one run, without their candidates, which are read on demand.

    ``finished`` is False for geotag's output folder without ``_SUCCESS``; ``manifest`` is empty where there is none.
    """

    path: str
    table: pa.Table
    dataset: pyarrow.dataset.Dataset | None
    manifest: dict[str, Any]
    finished: bool

    @property
    def ids(self) -> pa.Array:
        """The image ids."""
        return self.table["image_id"].combine_chunks()

    @property
    def latlon(self) -> Float64[np.ndarray, "n 2"]:
        """The answers in degrees, NaN where there is none."""
        return _points(self.table, "latitude", "longitude")

    @property
    def cell_latlon(self) -> Float64[np.ndarray, "n 2"]:
        """The first cells' centres in degrees, NaN where there is none."""
        return _points(self.table, "cell_latitude", "cell_longitude")

    @property
    def answered(self) -> Bool[np.ndarray, "n"]:
        """Whether a row has a point and no problem."""
        answered: Bool[np.ndarray, "n"] = np.isfinite(self.latlon).all(axis=1) & (self.texts("problem") == "")
        return answered

    def parts(self, num_rows: int) -> list[Part]:
        """The row groups of their parquet files, in order, as few together as have this many rows, or a file."""
        if self.dataset is None:
            raise ValueError(f"{self.path} is not in parquet")
        found, first_row = [], 0
        for fragment in self.dataset.get_fragments():
            groups: list[Any] = []
            for group in fragment.row_groups:
                groups.append(group)
                if sum(one.num_rows for one in groups) >= num_rows or group.id == fragment.row_groups[-1].id:
                    numbers, size = tuple(one.id for one in groups), sum(one.num_rows for one in groups)
                    found.append(Part(file=fragment.path, row_groups=numbers, first_row=first_row, num_rows=size))
                    first_row, groups = first_row + size, []
        return found

    def take(self, rows: Int[np.ndarray, "m"]) -> "Predictions":
        """The predictions of these rows."""
        return replace(self, table=self.table.take(pa.array(rows, pa.int64())))

    def has(self, name: str) -> bool:
        """Whether the files have this column."""
        return name in self.table.column_names

    def numbers(self, name: str) -> Float64[np.ndarray, "n"]:
        """A column of numbers, NaN where there is none."""
        return _numbers(self.table, name)

    def texts(self, name: str) -> Shaped[np.ndarray, "n"]:
        """A column of texts, empty where there is none."""
        return _texts(self.table, name)

    def has_candidate(self, ids: Shaped[np.ndarray, "n"]) -> Bool[np.ndarray, "n"] | None:
        """Whether each row has the candidate of this id; None where the files have no candidates."""
        if self.dataset is None or "candidates" not in self.dataset.schema.names:
            return None
        lists = self.dataset.to_table(columns=["candidates"])["candidates"].combine_chunks()
        names, rows = pc.struct_field(lists.flatten(), "cell_id"), pc.list_parent_indices(lists)
        same = pc.fill_null(pc.equal(names, pa.array(ids, pa.string()).take(rows)), False).to_numpy(False)
        return np.bincount(rows.to_numpy(), same, len(ids)) > 0

    def candidates(self, image_ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """The candidates of these images, most probable first; empty where the files have none."""
        if self.dataset is None or not {"image_id", "candidates"} <= set(self.dataset.schema.names):
            return {}
        wanted = pc.field("image_id").isin(pa.array(list(image_ids), pa.string()))
        found = self.dataset.to_table(columns=["image_id", "candidates"], filter=wanted)
        return {row["image_id"]: row["candidates"] or [] for row in found.to_pylist()}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Where the images were taken; ``countries`` is None where the table has no such column."""

    path: str
    ids: pa.Array
    latlon: Float64[np.ndarray, "n 2"]
    countries: Shaped[np.ndarray, "n"] | None
    groups: Shaped[np.ndarray, "n"] | None = None  # texts of ``group_by``: images that share one are of a place
    group_by: str | None = None


def read_predictions(path: str | Path) -> Predictions:
    """The predictions in a file, in a folder of parquet files, or in the output folder of ``geo-ray geotag``.

    Raises ``InputError`` where they can't be read, or ids are repeated or missing.
    """
    predictions = _open(str(path), PREDICTION_COLUMNS)
    check_points(predictions.latlon[predictions.answered], str(path))
    return predictions


def open_predictions(path: str | Path) -> Predictions | None:
    """The same with ids alone, whose parts ``read_part`` reads; None where they aren't in parquet."""
    opened = _open(str(path), {"image_id": PREDICTION_COLUMNS["image_id"]})
    return None if opened.dataset is None else opened


def read_part(path: str, part: Part, manifest: dict[str, Any]) -> Predictions:
    """The predictions of a part of those at ``path``; errors are as of ``read_predictions``."""
    fs, _ = _locate(path)
    with _input_errors(path):
        whole = pyarrow.dataset.dataset([part.file], filesystem=fs, format="parquet")
        fragments = [one.subset(row_group_ids=list(part.row_groups)) for one in whole.get_fragments()]
        dataset = pyarrow.dataset.FileSystemDataset(fragments, whole.schema, whole.format, whole.filesystem)
        table = _table(dataset, PREDICTION_COLUMNS, path)
    predictions = Predictions(path=path, table=table, dataset=dataset, manifest=manifest, finished=True)
    check_points(predictions.latlon[predictions.answered], path)
    return predictions


def _open(path: str, columns: dict[str, tuple[str, ...]]) -> Predictions:
    """These columns of the predictions at a path."""
    fs, root = _locate(path)
    inner = f"{root.rstrip('/')}/predictions"
    is_run = bool(fs.isdir(inner))
    table, dataset = _read(fs, inner if is_run else root, path, columns)
    predictions = Predictions(
        path=path,
        table=table,
        dataset=dataset,
        manifest=_manifest(fs, [root] if is_run else [root, *map(str, list(PurePosixPath(root).parents)[:2])]),
        finished=not is_run or bool(fs.exists(f"{root.rstrip('/')}/_SUCCESS")),
    )
    _check_ids(predictions.ids, path)
    return predictions


def read_truth(
    path: str | Path,
    group_by: str | None = None,
    selection: tuple[str, str] | None = None,
    check_range: bool = True,
) -> Truth:
    """The images' places in a CSV, TSV (also .gz, .bz2) or parquet table with columns of the usual names.

    ``group_by`` is a column that says which images are of one place, as of one user or one location; ``selection`` are
    a column and the value of the rows that count. Raises ``InputError`` where it can't be read, ids are repeated or
    missing, or, unless ``check_range`` is False, points aren't degrees in range.
    """
    path = str(path)
    columns = TRUTH_COLUMNS if group_by is None else TRUTH_COLUMNS | {"group": (group_by.casefold(),)}
    if selection is not None:
        columns = columns | {"selection": (selection[0].casefold(),)}
    table, _ = _read(*_locate(path), path, columns)
    if selection is not None:
        table = table.filter(pc.equal(table["selection"], selection[1]))
    has_country = "country" in table.column_names
    if group_by is not None and "group" not in table.column_names:
        raise InputError(f"{path} has no column {group_by!r}; name one of its columns with --group-by")
    truth = Truth(
        path=path,
        ids=table["image_id"].combine_chunks(),
        latlon=_points(table, "latitude", "longitude"),
        countries=_texts(table, "country") if has_country else None,
        groups=None if group_by is None else _texts(table, "group"),
        group_by=group_by,
    )
    _check_ids(truth.ids, path)
    if check_range:
        check_points(truth.latlon, path)
    return truth


def read_column_names(path: str | Path) -> list[str]:
    """The names of a table's columns, as ``read_truth`` takes them."""
    path = str(path)
    fs, root = _locate(path)
    if _suffix(root) in TEXT_ENDINGS:
        return list(column_names(path))
    files = _parquet_files(fs, root) if fs.isdir(root) else [root]
    with _input_errors(path):
        return list(pyarrow.dataset.dataset(files, filesystem=fs, format="parquet").schema.names)


def read_points(path: str | Path) -> Float64[np.ndarray, "n 2"]:
    """The latitudes and longitudes of a table as ``read_truth`` takes it, which needs no ids; errors are the same."""
    table, _ = _read(*_locate(str(path)), str(path), {name: TRUTH_COLUMNS[name] for name in ("latitude", "longitude")})
    latlon = _points(table, "latitude", "longitude")
    if len(latlon) == 0:
        raise InputError(f"{path} has no rows; give a table of points")
    check_points(latlon, str(path))
    return latlon


def read_texts(path: str | Path, columns: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Columns of texts of a table, by our names; ``columns`` lists the usual names of each, best first.

    A column that the file has not is left out. Raises ``InputError`` where the file can't be read.
    """
    table, _ = _read(*_locate(str(path)), str(path), columns)
    return {name: _texts(table, name).tolist() for name in table.column_names}


def _locate(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    with remote_errors(lambda why: InputError(f"{path} can't be opened ({why}); {CHECK}")):
        fs, root = filesystem(path)
        found = fs.exists(root)
    if not found:
        raise InputError(f"{path} does not exist; give a table, or a folder that holds predictions")
    return fs, root


@contextmanager
def _input_errors(path: str) -> Iterator[None]:
    with remote_errors(lambda why: InputError(f"{path} can't be read: {' '.join(str(why).split())}")):
        yield


def _read(
    fs: fsspec.AbstractFileSystem, root: str, path: str, columns: dict[str, tuple[str, ...]]
) -> tuple[pa.Table, pyarrow.dataset.Dataset | None]:
    """The table under our column names, and the parquet data set it came from."""
    suffix = _suffix(root)
    if suffix in TEXT_ENDINGS:
        return _read_text(path, columns), None
    if not fs.isdir(root) and suffix not in PARQUET_SUFFIXES:
        raise InputError(
            f"{path}: unknown kind of table; give .csv, .tsv, .jsonl or .parquet, or a folder of parquet files"
        )
    files = _parquet_files(fs, root) if fs.isdir(root) else [root]
    if not files:
        raise InputError(f"{path} holds no parquet files; give the output folder of geo-ray geotag, or a table")
    with _input_errors(path):
        dataset = pyarrow.dataset.dataset(files, filesystem=fs, format="parquet")
        return _table(dataset, columns, path), dataset


def _table(dataset: pyarrow.dataset.Dataset, columns: dict[str, tuple[str, ...]], path: str) -> pa.Table:
    """The columns of a data set under our names and types."""
    names = _choose(dataset.schema.names, columns, path)
    return _typed(dataset.to_table(columns={ours: pc.field(theirs) for ours, theirs in names.items()}))


def _suffix(root: str) -> str:
    """The last suffix in small letters, looking through compression."""
    path = PurePosixPath(root.lower())
    return path.with_suffix("").suffix if path.suffix in (".gz", ".bz2") else path.suffix


def _parquet_files(fs: fsspec.AbstractFileSystem, root: str) -> list[str]:
    """All below a folder but what is hidden or set apart by a leading dot or underscore."""
    inside = ((name, PurePosixPath(name).relative_to(PurePosixPath(root)).parts) for name in fs.find(root))
    shown = (name for name, parts in inside if not any(part.startswith((".", "_")) for part in parts))
    return sorted(name for name in shown if name.lower().endswith(PARQUET_SUFFIXES))


def _read_text(path: str, columns: dict[str, tuple[str, ...]]) -> pa.Table:
    parts: dict[str, list[str]] = {}
    for piece in read_pieces(path, columns):
        for name, values in piece.items():
            parts.setdefault(name, []).extend(values)
    if any(name in columns and name not in parts for name in REQUIRED):
        _choose(column_names(path), columns, path)
    return pa.table({name: _column(path, name, values) for name, values in parts.items()})


def _column(path: str, name: str, values: list[str]) -> pa.Array:
    if name not in NUMBERS:
        return pa.array(values, pa.string())
    numbers = []
    for row, value in enumerate(values, 1):
        try:
            numbers.append(number(value) if value else None)
        except ValueError as error:
            raise InputError(f"{path}: row {row} has {value!r} as its {name}; correct or remove it") from error
    return pa.array(numbers, pa.float64())


def _choose(present: list[str], columns: dict[str, tuple[str, ...]], path: str) -> dict[str, str]:
    """Our column names to the file's; the country and other optional columns may be missing."""
    found = chosen_names(present, columns)
    for name in REQUIRED:
        if name in columns and name not in found:
            raise InputError(
                f"{path} has no column for the {name}: it has {', '.join(present)}; "
                f"call the column {name} (also known: {', '.join(columns[name][1:])})"
            )
    return found


def _typed(table: pa.Table) -> pa.Table:
    """Ids and texts as strings, numbers as float64: ids are often integers in other people's tables."""
    types = [pa.float64() if name in NUMBERS else pa.string() for name in table.column_names]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))


def _numbers(table: pa.Table, name: str) -> Float64[np.ndarray, "n"]:
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    return np.asarray(pc.fill_null(table[name], float("nan")).to_numpy(), np.float64)


def _texts(table: pa.Table, name: str) -> Shaped[np.ndarray, "n"]:
    if name not in table.column_names:
        return np.full(len(table), "", dtype=object)
    encoded = pc.fill_null(table[name], "").combine_chunks().dictionary_encode()  # equal texts are one object
    texts = np.asarray(encoded.dictionary.to_numpy(zero_copy_only=False), dtype=object)
    return np.asarray(texts[encoded.indices.to_numpy()], dtype=object)


def _points(table: pa.Table, latitude: str, longitude: str) -> Float64[np.ndarray, "n 2"]:
    return np.stack([_numbers(table, latitude), _numbers(table, longitude)], axis=1)


def _check_ids(ids: pa.Array, path: str) -> None:
    missing = ids.null_count + pc.sum(pc.equal(ids, "")).as_py() if len(ids) else 0
    if missing:
        raise InputError(f"{path}: {missing} of {len(ids)} rows have no image id; remove them or give them ids")
    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(repeated):
        examples = ", ".join(repr(value) for value in repeated[:3].to_pylist())
        raise InputError(f"{path}: {len(repeated)} image ids occur more than once ({examples}); keep one row an image")


def check_points(latlon: Float64[np.ndarray, "n 2"], path: str) -> None:
    """Raise ``InputError`` where points aren't degrees in range."""
    try:
        check_latlon(latlon, path)
    except ValueError as error:
        raise InputError(f"{error}; correct or remove these rows") from error


def _manifest(fs: fsspec.AbstractFileSystem, folders: list[str]) -> dict[str, Any]:
    """The first manifest.json in these folders."""
    for folder in folders:
        path = f"{folder.rstrip('/')}/manifest.json"
        if fs.exists(path):
            try:
                manifest: dict[str, Any] = dict(json.loads(fs.cat_file(path)))
            except (ValueError, TypeError) as error:
                raise InputError(f"{path} is damaged ({error}); restore or remove it") from error
            return manifest
    return {}
