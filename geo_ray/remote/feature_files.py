"""Files of image features: parquet with ``image_id`` and ``features`` (fixed-size lists), as ``geo-ray embed`` writes.

Only ids, places and row counts are read here; features are read by tasks, a row group each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Float64, Int64

from geo_ray.errors import InputError
from geo_ray.evaluation.tables import read_truth
from geo_ray.geo.sphere import check_latlon
from geo_ray.remote_files import CHECK, filesystem, open_file, remote_errors
from geo_ray.tables.joining import examples, join

REMEDY = "write it with `geo-ray embed`"
PLACES = ("latitude", "longitude")


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """A part of a file that is read at once, and the first of its rows among those of all files."""

    uri: str
    number: int
    start: int
    num_rows: int

    @property
    def title(self) -> str:
        """What a person may call it."""
        return f"{self.uri} row group {self.number}"


@dataclass(frozen=True, kw_only=True)
class Members:
    """The images of files of features; arrays have a row for each row of the files.

    ``ids`` are rows of the table of places, or of the files where those say the places themselves; ``used`` are rows
    without a problem. Points are in degrees, NaN where a row isn't used.
    """

    row_groups: tuple[RowGroup, ...]
    num_features: int
    used: Bool[np.ndarray, "n"]
    ids: Int64[np.ndarray, "n"]
    latlon: Float64[np.ndarray, "n 2"]


def read_members(features: Sequence[str], places: str | None = None) -> Members:
    """The images in files or folders of features and where they were taken, by a table of places or by the files.

    Raises ``InputError`` that counts images that occur twice or have no place, and names files that can't be used.
    """
    table, row_groups, num_features = _read_all([uri for source in features for uri in list_files(source)], places)
    used = np.asarray(pc.equal(table["problem"], "").to_numpy())
    if not used.any():
        raise InputError(f"none of {len(table)} images in {', '.join(features)} has features; {REMEDY}")
    image_ids = table["image_id"].filter(pa.array(used))
    _check_unique(image_ids, features)
    if places is None:
        rows = np.flatnonzero(used)
        known = np.stack([table[name].to_numpy() for name in PLACES], axis=1)[used]
    else:
        rows, known = _look_up(image_ids, places)
    try:
        check_latlon(known, ", ".join(features))
    except ValueError as error:
        raise InputError(f"{error}; correct or remove these rows") from error
    ids, latlon = np.full(len(used), -1), np.full((len(used), 2), np.nan)
    ids[used], latlon[used] = rows, known
    return Members(row_groups=row_groups, num_features=num_features, used=used, ids=ids, latlon=latlon)


def read_features(row_group: RowGroup, rows: Int64[np.ndarray, "m"]) -> tuple[Float[np.ndarray, "m D"], int]:
    """The features of these rows of a row group, as they are stored, and how many are null or not finite."""
    with open_file(row_group.uri) as file:
        table = pq.ParquetFile(file).read_row_group(row_group.number, columns=["features"])
    column = table["features"].combine_chunks().take(pa.array(rows))
    features = column.drop_null().flatten().to_numpy().reshape(-1, column.type.list_size)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.vecdot(features, features, dtype=np.float32)
    return features, column.null_count + int((~np.isfinite(lengths)).sum())


def encoder_of(features: Sequence[str]) -> str:
    """The fingerprint of the encoder that the folders' manifests name; empty where there are no manifests."""
    found: dict[str, str] = {}
    for source in features:
        fs, root = _locate(source)
        path = f"{root}/manifest.json"
        if fs.isdir(root) and fs.exists(path):
            try:
                found[str(json.loads(fs.cat_file(path))["bundle"]["encoder_fingerprint"])] = source
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path} names no encoder ({error!r}); {REMEDY}, or say which it was") from error
    if len(found) > 1:
        listed = ", ".join(f"{fingerprint} of {source}" for fingerprint, source in found.items())
        raise InputError(f"features are of different encoders: {listed}; embed them with one bundle")
    return next(iter(found), "")


def _locate(source: str) -> tuple[Any, str]:
    with remote_errors(lambda why: InputError(f"{source} can't be opened ({why}); {CHECK}")):
        fs, root = filesystem(source)
        found = fs.exists(root)
    if not found:
        raise InputError(f"{source} does not exist; give the output of `geo-ray embed`, or parquet files")
    return fs, str(root).rstrip("/")


def list_files(source: str) -> list[str]:
    """The parquet files that a file or folder means, sorted, as URIs."""
    fs, root = _locate(source)
    if not fs.isdir(root):
        return [fs.unstrip_protocol(root)]
    is_run = fs.isdir(f"{root}/predictions")
    if is_run and not fs.exists(f"{root}/_SUCCESS"):
        raise InputError(f"{source} is unfinished; complete it with `geo-ray embed --resume`")
    root = f"{root}/predictions" if is_run else root
    inside = ((name, PurePosixPath(name).relative_to(PurePosixPath(root)).parts) for name in fs.find(root))
    shown = sorted(name for name, parts in inside if not any(part.startswith((".", "_")) for part in parts))
    files = [fs.unstrip_protocol(name) for name in shown if name.endswith(".parquet")]
    if not files:
        raise InputError(f"{source} holds no parquet files; {REMEDY}")
    return files


def _read_all(uris: Sequence[str], places: str | None) -> tuple[pa.Table, tuple[RowGroup, ...], int]:
    """Ids, problems and places of all files, their row groups, and the number of features."""
    tables: list[pa.Table] = []
    row_groups: list[RowGroup] = []
    widths: dict[int, str] = {}
    start = 0
    for uri in uris:
        columns, width, sizes = _read_file(uri, with_places=places is None)
        for number, size in enumerate(sizes):
            row_groups.append(RowGroup(uri=uri, number=number, start=start, num_rows=size))
            start += size
        widths.setdefault(width, uri)
        tables.append(columns)
    if len(widths) > 1:
        listed = ", ".join(f"{width} in {uri}" for width, uri in widths.items())
        raise InputError(f"images have different numbers of features ({listed}); embed them with one bundle")
    return pa.concat_tables(tables), tuple(row_groups), next(iter(widths))


def _read_file(uri: str, with_places: bool) -> tuple[pa.Table, int, list[int]]:
    """Ids, problems and, if asked for, places of a file; the number of features; rows of each row group."""

    def unreadable(error: Exception) -> InputError:
        return InputError(f"{uri} can't be read ({' '.join(str(error).split())}); {REMEDY}")

    with remote_errors(unreadable), open_file(uri) as opened:
        file = pq.ParquetFile(opened)
        schema = file.schema_arrow
        _check_schema(uri, schema, ("image_id", "features", *(PLACES if with_places else ())))
        names = [name for name in ("image_id", "problem", *PLACES) if name in schema.names]
        table = file.read(columns=names)
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    columns = {"image_id": table["image_id"].cast(pa.string())}
    columns["problem"] = (
        pc.fill_null(table["problem"].cast(pa.string()), "") if "problem" in names else pa.array([""] * len(table))
    )
    if with_places:
        columns |= {name: pc.fill_null(table[name].cast(pa.float64()), float("nan")) for name in PLACES}
    return pa.table(columns), schema.field("features").type.list_size, sizes


def _check_schema(uri: str, schema: pa.Schema, wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        hint = "name a table of places, or " if set(missing) <= set(PLACES) else ""
        raise InputError(f"{uri} lacks the columns {missing}; {hint}{REMEDY}")
    kind = schema.field("features").type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise InputError(f"{uri}: features are {kind}, not fixed-size lists of floats; {REMEDY}")


def _check_unique(image_ids: pa.ChunkedArray, features: Sequence[str]) -> None:
    num_repeated = len(image_ids) - pc.count_distinct(image_ids).as_py()
    if num_repeated:
        listed = ", ".join(features)
        raise InputError(f"{listed}: {num_repeated} of {len(image_ids)} images are there twice; keep one row an image")


def _look_up(image_ids: pa.ChunkedArray, places: str) -> tuple[Int64[np.ndarray, "m"], Float64[np.ndarray, "m 2"]]:
    """The row of each image in the table of places, and where it was taken."""
    truth = read_truth(places)
    ids = image_ids.combine_chunks()
    joined, ambiguous = join(ids, truth.ids)
    if joined is None and ambiguous:
        raise InputError(f"{places} does not fit the features: {ambiguous}; give it the image ids as they are")
    missing = np.setdiff1d(np.arange(len(ids)), joined.rows if joined else [])
    if joined is None or len(missing):
        raise InputError(
            f"{len(missing)} of {len(ids)} images have no place in {places} ({examples(ids.take(missing[:3]))}); "
            "add them there, or leave them out of the features"
        )
    return joined.other_rows, truth.latlon[joined.other_rows]
