"""Looking for test images that training data give away, in the files that ``geo-ray embed`` writes."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from geo_ray.errors import InputError, OutputError
from geo_ray.evaluation.leaks import Images, LeakRules, counts_text, find_leaks, leak_table
from geo_ray.evaluation.matching import match
from geo_ray.evaluation.tables import Predictions, Truth, read_truth
from geo_ray.index.index_folder import DESCRIPTION, read_index
from geo_ray.remote.feature_files import list_files
from geo_ray.remote_files import open_file, remote_errors


def search_leaks(
    truth: str,
    train: str,
    output: Path,
    rules: LeakRules,
    features: str | None = None,
    train_features: str | None = None,
    group_by: str | None = None,
) -> str:
    """Write a row a test image, whether and why it leaks; returns what was found, in words.

    ``truth`` and ``train`` are tables of images and places, or ``train`` the folder of an index; ``features`` are what
    ``geo-ray embed`` wrote of their images, with ``--hashes`` the hashes too. Raises ``InputError`` where something
    can't be read or compared, ``OutputError`` where the table can't be written.
    """
    test, known = read_images(truth, features, group_by), read_train(train, train_features, group_by)
    if (test.features is None) != (known.features is None):
        side = "the training images" if known.features is None else "the test images"
        raise InputError(f"{side} have no features to compare: embed them with geo-ray embed --hashes")
    if test.features is not None and known.features is not None and test.features.shape[1] != known.features.shape[1]:
        widths = f"{test.features.shape[1]} and {known.features.shape[1]}"
        raise InputError(f"features of {widths} numbers are of different encoders; embed both with one bundle")
    leaks = find_leaks(test, known, rules, os.cpu_count() or 1)
    _write(leak_table(test, known, leaks), output)
    return f"{counts_text(leaks)}{_not_looked_at(test, known)}; {output}"


def _not_looked_at(test: Images, train: Images) -> str:
    """What could not be compared."""
    missing = []
    if test.features is None:
        missing.append("pictures (no features)")
    elif test.hashes is None or train.hashes is None:
        missing.append("hashes (embed both with --hashes)")
    if test.groups is None or train.groups is None:
        missing.append("authors (--group-by)")
    return f"; not compared: {', '.join(missing)}" if missing else ""


def _write(table: pa.Table, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, output)
    except OSError as error:
        raise OutputError(f"{output} can't be written ({error}); name another file with --output") from error


def read_train(train: str, features: str | None, group_by: str | None) -> Images:
    """Training images: a table with the features of their images, or the members of an index."""
    if not (Path(train) / DESCRIPTION).is_file():
        return read_images(train, features, group_by)
    index = read_index(Path(train))
    rows = np.arange(len(index.member_latlon)) if index.member_ids is None else index.member_ids
    return Images(
        ids=pa.array(rows.astype(str)),
        latlon=index.member_latlon.astype(np.float64),
        features=index.member_features.decode(),
    )


def read_images(table: str, features: str | None, group_by: str | None) -> Images:
    """The images of a table of places, with the features and hashes of those that were embedded."""
    truth = read_truth(table, group_by)
    if features is None:
        return Images(ids=truth.ids, latlon=truth.latlon, groups=truth.groups)
    embedded = _embedded(features)
    ids = Predictions(path=features, table=embedded.select(["image_id"]), dataset=None, manifest={}, finished=True)
    pairs = match(ids, truth)
    return _images(truth, embedded, pairs.truth_rows, pairs.prediction_rows)


def _images(truth: Truth, embedded: pa.Table, rows: Int[np.ndarray, "n"], of: Int[np.ndarray, "n"]) -> Images:
    taken = embedded.take(pa.array(of))
    hashes = taken["phash"].to_numpy().astype(np.uint64) if "phash" in taken.column_names else None
    return Images(
        ids=truth.ids.take(pa.array(rows)),
        latlon=truth.latlon[rows],
        groups=None if truth.groups is None else truth.groups[rows],
        features=np.stack(taken["features"].to_numpy()).astype(np.float32),
        hashes=hashes,
    )


def _embedded(features: str) -> pa.Table:
    """All rows with features below a folder that ``geo-ray embed`` wrote."""
    tables = [_read(uri) for uri in list_files(features)]
    if "features" not in tables[0].column_names:
        raise InputError(f"{features} holds no features; name an output of geo-ray embed")
    table = pa.concat_tables(tables)
    return table.filter(pc.is_valid(table["features"]))


def _read(uri: str) -> pa.Table:
    why = "name an output of geo-ray embed"
    with remote_errors(lambda reason: InputError(f"{uri} can't be read ({reason}); {why}")), open_file(uri) as file:
        return pq.read_table(file)
