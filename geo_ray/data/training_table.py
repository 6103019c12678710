"""The training table, from every source that is geotagged: images joined with their places, named and split.

Ray Data reads the sources' shards, joins each with the truth, adds what is known of the places, and writes the rows in
random order (``tables.training``).
"""

import dataclasses
import hashlib
import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import ray
import ray.data

from geo_ray.atlas.address_lists import Annotation, places_of_names, read_annotations
from geo_ray.atlas.addresses import Addresses, label_points, read_addresses
from geo_ray.atlas.boundaries import boundaries
from geo_ray.atlas.covariates import Covariates, covariates_of
from geo_ray.atlas.place_names import place_names
from geo_ray.data.drawn_inputs import STREETS, drawn_folder, drawn_shards, drawn_truth, is_drawn
from geo_ray.data.sources import Row, Shard, SourceOptions, open_sources
from geo_ray.data.training_splits import SplitRules, split_images
from geo_ray.datasets import street_map
from geo_ray.errors import InputError, OutputError
from geo_ray.evaluation.tables import read_points, read_texts, read_truth
from geo_ray.remote_files import filesystem
from geo_ray.tables.joining import join
from geo_ray.tables.training import ADDRESSES, MANIFEST, SCHEMA

ROWS_PER_GROUP = 256  # rows of a row group, which is what training reads at a time
ROWS_PER_BATCH = 64
# Columns of a truth table that are known beside the place, by the names that data sets have for them.
EXTRA = {
    "group": ("group", "author", "user", "user_id", "userid", "owner", "sequence", "sequence_id", "creator_username"),
    "place": ("place", "location_id", "panoid", "pano_id", "unique_id"),
    "view": ("view", "view_number"),
    "split": ("split", "selection"),
    "month": ("month", "captured_at", "datetaken", "date_taken", "date"),
    "heading": ("heading", "compass_angle", "thumb_heading"),
    "address": ("address",),
    "caption": ("caption", "description", "text"),
}


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What a training table is made of, and how.

    ``truth`` is a table with the images' places; drawn images need none, nor do ``annotations`` (of Pitts-IAL or
    SF-IAL) of files whose names tell. ``addresses`` is a file by ``geo-ray address build``, by which positions get an
    address. ``benchmarks`` are tables of points that nothing may be trained on near. With ``inline`` the files' bytes
    are in the table, else what has an address of its own is read from there each time.
    """

    inputs: tuple[str, ...]
    output: str
    truth: str | None = None
    annotations: tuple[str, ...] = ()
    addresses: str = ""
    benchmarks: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)  # of the truth, by our name: {"group": "photographer"}
    rules: SplitRules = field(default_factory=SplitRules)
    covariates: Covariates = field(default_factory=Covariates)
    inline: bool = True
    shuffle: bool = True
    sources: SourceOptions = field(default_factory=SourceOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := set(self.columns) - set(EXTRA):
            raise InputError(f"no such column: {', '.join(sorted(unknown))}; name one of {', '.join(EXTRA)}")


def build_training_table(options: TableOptions, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Write the table on the connected Ray; returns its manifest, which is written last.

    No image is dropped: one that has no place, can't be read or may not be trained on is in a split of that name.
    Raises ``InputError`` where no image has a place, and ``OutputError`` where the output holds something.
    """
    fs, root = filesystem(options.output)
    if fs.exists(root) and fs.ls(root):
        raise OutputError(f"{options.output} holds something; name a new folder with --output")
    options.covariates.check()
    shards, truth = _shards(options), _truth(options, say)
    if not shards:
        raise InputError(f"there are no images in {', '.join(options.inputs)}")
    say(f"{len(shards):,} shards; {len(truth):,} places: {_counts_text(Counter(truth['split'].to_pylist()))}")
    rows = ray.data.from_items([{"shard": pickle.dumps(shard)} for shard in shards], override_num_blocks=len(shards))
    place = _Placing(truth=ray.put(truth), covariates=options.covariates, inline=options.inline)
    rows = rows.map_batches(place, batch_size=1, batch_format="pyarrow", zero_copy_batch=True)
    if options.shuffle:
        rows = rows.random_shuffle(seed=options.seed)
    local = "://" not in options.output
    rows.write_parquet(
        options.output, partition_cols=["split"], row_group_size=ROWS_PER_GROUP,
        **({} if local else {"filesystem": pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))}),
    )  # fmt: skip
    if addresses := _addresses_file(options):
        fs.put_file(addresses, f"{root}/{ADDRESSES}")
    manifest = _manifest(options, len(truth))
    if not manifest["num_placed"]:
        raise InputError(f"no image of {options.inputs[0]} is in {options.truth}; ids must agree, as {manifest['ids']}")
    with fs.open(f"{root}/{MANIFEST}", "w") as file:
        json.dump(manifest, file, indent=1)
    say(f"{manifest['num_rows']:,} images: {_counts_text(manifest['splits'])}")
    return manifest


def _addresses_file(options: TableOptions) -> str:
    """The file of addresses that the images' ones are of; empty where there is none."""
    folders = [drawn_folder(text) for text in options.inputs if text.startswith(STREETS)]
    return options.addresses or next((str(Path(folder, street_map.ADDRESSES)) for folder in folders), "")


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _shards(options: TableOptions) -> list[Shard]:
    files = tuple(text for text in options.inputs if not is_drawn(text))
    shards = [shard for text in options.inputs if is_drawn(text) for shard in drawn_shards(text, options.seed)]
    if files:
        shards += open_sources(files, options.sources).shards()
    return shards


def _truth(options: TableOptions, say: Callable[[str], None]) -> pa.Table:
    """Id, place and split of every image that has a place, and what else is told of it."""
    tables = [_truth_table(*drawn_truth(text, options.seed)) for text in options.inputs if is_drawn(text)]
    if options.truth is not None:
        truth = read_truth(options.truth)
        told = read_texts(options.truth, {name: _names(name, options.columns) for name in EXTRA})
        tables.append(_truth_table(truth.ids.to_pylist(), truth.latlon, told))
    if options.annotations:
        tables = _annotated(tables, [each for path in options.annotations for each in read_annotations(path)])
    if not tables:
        raise InputError("where were the images taken? name a table of their places with --truth")
    table = pa.concat_tables(tables)
    latlon = np.stack([table[name].to_numpy() for name in ("latitude", "longitude")], axis=1)
    if options.addresses:
        table = _addressed(table, latlon, read_addresses(options.addresses), say)
    found = split_images(
        latlon,
        options.rules,
        _texts(table, "group"),
        [read_points(path) for path in options.benchmarks],
        _texts(table, "split"),
    )
    if options.addresses or options.annotations:
        there = np.array([value is not None for value in table["address"].to_pylist()], bool)
        found = np.where(there, found.astype(object), "no_address")
    return _with_column(table, "split", found.tolist())


def _annotated(tables: list[pa.Table], annotations: Sequence[Annotation]) -> list[pa.Table]:
    """The tables with captions and addresses by id; without a table of places, file names tell where images are."""
    images = pa.array([each.image for each in annotations], pa.string())
    if not tables:
        latlon = places_of_names(images.to_pylist())
        there = np.isfinite(latlon).all(axis=1)
        if not there.any():
            raise InputError(
                f"the annotations tell no coordinates, nor do their file names, such as {annotations[0].image!r}; name "
                "a table of places with --truth"
            )
        ids = [image for image, known in zip(images.to_pylist(), there.tolist(), strict=True) if known]
        tables = [_truth_table(ids, latlon[there], {})]
    found = []
    for table in tables:
        joined, _ = join(table["image_id"].combine_chunks(), images)
        pairs = [] if joined is None else list(zip(joined.rows.tolist(), joined.other_rows.tolist(), strict=True))
        told = table
        for name in ("caption", "address"):
            values = table[name].to_pylist()
            for row, other in pairs:
                values[row] = getattr(annotations[other], name) or None
            told = _with_column(told, name, values)
        found.append(told)
    return found


def _addressed(table: pa.Table, latlon: np.ndarray, addresses: Addresses, say: Callable[[str], None]) -> pa.Table:
    """The table with the address of each position, by the nearest sub-street, where none is told."""
    rows, counts = label_points(latlon, addresses)
    say(f"addresses: {', '.join(f'{count:,} {name}' for name, count in counts.items())}")
    found = [addresses.texts[row] if row >= 0 else None for row in rows.tolist()]
    told = [value or other for value, other in zip(table["address"].to_pylist(), found, strict=True)]
    return _with_column(table, "address", told)


def _with_column(table: pa.Table, name: str, values: Sequence[Any]) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(at).type))


def _names(name: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    return (columns[name].casefold(),) if name in columns else EXTRA[name]


def _truth_table(ids: Sequence[str], latlon: np.ndarray, known: Mapping[str, Sequence[Any]]) -> pa.Table:
    blank: list[Any] = [""] * len(ids)
    texts = {name: pa.array([str(v) for v in known.get(name, blank)], pa.string()) for name in ("group", "place")}
    splits = pa.array([str(v).strip().lower() for v in known.get("split", blank)], pa.string())
    return pa.table(
        {
            "image_id": pa.array(ids, pa.string()), "latitude": latlon[:, 0], "longitude": latlon[:, 1], **texts,
            "split": splits,
            "view": pa.array([_number(v, 0) for v in known.get("view", blank)], pa.int64()),
            "month": pa.array([month_of(v) for v in known.get("month", blank)], pa.int64()),
            "heading": pa.array([_degrees(v) for v in known.get("heading", blank)], pa.float64()),
            "address": pa.array([_or_none(v) for v in known.get("address", blank)], pa.string()),
            "caption": pa.array([_or_none(v) for v in known.get("caption", blank)], pa.string()),
        }
    )  # fmt: skip


def _number(value: Any, otherwise: int) -> int:
    text = str(value).strip()
    return int(text) if text.isdecimal() else otherwise


def month_of(value: Any) -> int | None:
    """The month, from 1, of a number of one, of a date in ISO 8601, or of milliseconds since 1970; else None."""
    text = str(value).strip()
    if text.isdecimal() and len(text) >= 12:
        return int(np.datetime64(int(text), "ms").astype("datetime64[M]").astype(int) % 12) + 1
    digits = text.replace("/", "-").replace(":", "-").split("-")
    number = text if text.isdecimal() and len(text) <= 2 else digits[1] if len(digits) > 1 else ""
    return int(number) if number.isdecimal() and 1 <= int(number) <= 12 else None


def _degrees(value: Any) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number % 360 if np.isfinite(number) else None


def _texts(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist(), dtype=object)


def _or_none(value: Any) -> str | None:
    return str(value).strip() or None


@dataclass(frozen=True, kw_only=True)
class _Placing:
    """A task's work: a shard's images, with all that a training table says of each."""

    truth: Any  # a table in Ray's object store
    covariates: Covariates
    inline: bool

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        truth = ray.get(self.truth)
        shard: Shard = pickle.loads(rows["shard"][0].as_py())
        held: list[Row] = []
        for row in shard.rows():
            held.append(row)
            if len(held) == ROWS_PER_BATCH:
                yield self._placed(held, truth)
                held = []
        if held:
            yield self._placed(held, truth)

    def _placed(self, rows: list[Row], truth: pa.Table) -> pa.Table:
        ids = pa.array([row.image_id for row in rows], pa.string())
        found, _ = join(ids, truth["image_id"].combine_chunks())
        at = np.full(len(rows), -1, np.int64)
        if found is not None:
            at[found.rows] = found.other_rows
        where = pa.array(at, pa.int64(), mask=at < 0)
        taken = truth.drop_columns(["image_id"]).take(where)
        problems = np.array([row.problem for row in rows], dtype=object)
        content = [row.contents[0] if self.inline or "#" in row.uris[0] else None for row in rows]
        split = np.array(taken["split"].to_pylist(), dtype=object)
        split[at < 0] = "no_place"
        split[problems != ""] = "problem"
        latlon = np.stack([taken[name].to_numpy(zero_copy_only=False) for name in ("latitude", "longitude")], axis=1)
        known = {name: taken[name] for name in taken.column_names} | self._known(latlon)
        known |= {
            "image_id": ids,
            "uri": pa.array([row.uris[0] for row in rows], pa.string()),
            "bytes": pa.array(content, pa.large_binary()),
            "problem": pa.array(problems, pa.string()),
            "split": pa.array(split, pa.string()),
        }
        known["place"] = pc.if_else(pc.equal(pc.fill_null(known["place"], ""), ""), ids, known["place"])
        return pa.table({entry.name: known[entry.name] for entry in SCHEMA}).cast(SCHEMA)

    def _known(self, latlon: np.ndarray) -> dict[str, pa.Array]:
        """Names and covariates of places, null where there is none."""
        there = np.isfinite(latlon).all(axis=1)
        names = place_names(latlon[there], boundaries())
        found = {"country": names.countries, "region": names.regions, "town": names.towns}
        columns: dict[str, pa.Array] = {}
        for name, values in found.items():
            column = np.full(len(latlon), None, dtype=object)
            column[there] = [value or None for value in values.tolist()]
            columns[name] = pa.array(column, pa.string())
        for name, known in covariates_of(latlon[there], names.countries, self.covariates).items():
            column = np.full(len(latlon), None, dtype=object)
            column[there] = known
            columns[name] = pa.array(column, SCHEMA.field(name).type, from_pandas=True)
        return columns


def _manifest(options: TableOptions, num_places: int) -> dict[str, Any]:
    """What was written: counts by split and problem, the options, and a digest of the files."""
    fs, root = filesystem(options.output)
    table = pyarrow.dataset.dataset(root, filesystem=fs, format="parquet", partitioning="hive")
    splits: Counter[str] = Counter()
    digest = hashlib.sha256()
    files = sorted(table.files)
    for path in files:
        count = pyarrow.dataset.dataset(path, filesystem=fs, format="parquet").count_rows()
        split = path.rpartition("split=")[2].partition("/")[0]
        splits[split] += count
        digest.update(f"{split} {count} {fs.size(path)}\n".encode())
    problems = table.to_table(columns=["problem"], filter=pc.field("problem") != "")["problem"]
    first = table.head(3, columns=["image_id"])["image_id"].to_pylist()
    settings = dataclasses.asdict(options)
    return {
        "num_rows": sum(splits.values()),
        "num_places": num_places,
        "num_placed": sum(count for name, count in splits.items() if name not in ("no_place", "problem")),
        "splits": dict(splits),
        "problems": dict(Counter(problems.to_pylist())),
        "digest": digest.hexdigest(),
        "ids": ", ".join(map(repr, first)),
        "options": {name: value for name, value in settings.items() if name != "sources"},
        "covariates": options.covariates.sources(),
    }
