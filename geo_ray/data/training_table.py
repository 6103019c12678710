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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import ray
import ray.data

from geo_ray.atlas.boundaries import boundaries
from geo_ray.atlas.covariates import Covariates, covariates_of
from geo_ray.atlas.place_names import place_names
from geo_ray.data.sources import Row, Shard, SourceOptions, open_sources
from geo_ray.data.training_splits import SplitRules, split_images
from geo_ray.datasets import earth
from geo_ray.errors import InputError, OutputError
from geo_ray.evaluation.tables import read_points, read_texts, read_truth
from geo_ray.remote_files import filesystem
from geo_ray.tables.joining import join
from geo_ray.tables.training import MANIFEST, SCHEMA

EARTH = "earth:"  # begins an input that is the embedded crops: earth:400, or earth:400x4 with four views of each
ROWS_PER_GROUP = 256  # rows of a row group, which is what training reads at a time
ROWS_PER_BATCH = 64
CROPS_PER_SHARD = 600
# Columns of a truth table that are known beside the place, by the names that data sets have for them.
EXTRA = {
    "group": ("group", "author", "user", "user_id", "userid", "owner", "sequence", "sequence_id", "creator_username"),
    "place": ("place", "location_id", "panoid", "pano_id", "unique_id"),
    "view": ("view", "view_number"),
    "split": ("split", "selection"),
    "month": ("month", "captured_at", "datetaken", "date_taken", "date"),
    "heading": ("heading", "compass_angle", "thumb_heading"),
}


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What a training table is made of, and how.

    ``truth`` is a table with the images' places; the embedded crops need none. ``benchmarks`` are tables of points that
    nothing may be trained on near. With ``inline`` the files' bytes are in the table, else what has an address of its
    own is read from there each time.
    """

    inputs: tuple[str, ...]
    output: str
    truth: str | None = None
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
    shards, truth = _shards(options), _truth(options)
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
    manifest = _manifest(options, len(truth))
    if not manifest["num_placed"]:
        raise InputError(f"no image of {options.inputs[0]} is in {options.truth}; ids must agree, as {manifest['ids']}")
    with fs.open(f"{root}/{MANIFEST}", "w") as file:
        json.dump(manifest, file, indent=1)
    say(f"{manifest['num_rows']:,} images: {_counts_text(manifest['splits'])}")
    return manifest


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


@dataclass(frozen=True, kw_only=True)
class CropShard(Shard):
    """Some of the embedded crops: the same photo locations every time, each in ``num_views`` views."""

    first: int
    stop: int
    num_views: int
    seed: int = 0

    @property
    def identity(self) -> tuple[Any, ...]:
        """Which crops they are."""
        return (self.first, self.stop, self.num_views, self.seed)

    def rows(self) -> Iterator[Row]:
        """The crops, as JPEG."""
        latlon = np.repeat(crop_places(self.stop, self.seed)[self.first :], self.num_views, axis=0)
        views = earth.jittered_views(latlon, np.random.default_rng((self.seed, self.first)))
        names = crop_ids(self.first, self.stop, self.num_views)
        for start in range(0, len(views), ROWS_PER_BATCH):
            pixels = earth.render(views.take(slice(start, start + ROWS_PER_BATCH)), raster_name=earth.RASTERS[0])
            for name, picture in zip(names[start:], pixels, strict=False):
                yield Row(name, (f"{EARTH}{name}",), (earth.encode_jpeg(picture),))


def crop_places(count: int, seed: int) -> np.ndarray:
    """The first of the photo locations in an order by the seed, degrees."""
    latlon = earth.locations()
    return np.asarray(latlon[np.random.default_rng(seed).permutation(len(latlon))[:count]])


def crop_ids(first: int, stop: int, num_views: int) -> list[str]:
    """Ids of crops, view by view."""
    return [f"crop-{place:06d}-{view}" for place in range(first, stop) for view in range(num_views)]


def _crop_counts(text: str) -> tuple[int, int]:
    count, _, views = text.removeprefix(EARTH).partition("x")
    if not count.isdecimal() or not (views or "1").isdecimal() or int(count) < 1:
        raise InputError(f"{text} must be {EARTH}NUMBER or {EARTH}NUMBERxVIEWS, as {EARTH}400x4")
    return int(count), int(views or 1)


def _shards(options: TableOptions) -> list[Shard]:
    files = tuple(text for text in options.inputs if not text.startswith(EARTH))
    shards: list[Shard] = []
    for text in options.inputs:
        if text.startswith(EARTH):
            count, views = _crop_counts(text)
            for first in range(0, count, CROPS_PER_SHARD):
                stop = min(first + CROPS_PER_SHARD, count)
                shards.append(CropShard(label=f"{text}/{first}", first=first, stop=stop, num_views=views,
                                        seed=options.seed))  # fmt: skip
    if files:
        shards += open_sources(files, options.sources).shards()
    return shards


def _truth(options: TableOptions) -> pa.Table:
    """Id, place and split of every image that has a place, and what else the truth tells."""
    tables = []
    for text in options.inputs:
        if text.startswith(EARTH):
            count, views = _crop_counts(text)
            latlon = np.repeat(crop_places(count, options.seed), views, axis=0)
            names = crop_ids(0, count, views)
            known: dict[str, list[Any]] = {
                "place": [name.rpartition("-")[0] for name in names],
                "view": list(range(views)) * count,
            }
            tables.append(_truth_table(names, latlon, known))
    if options.truth is not None:
        truth = read_truth(options.truth)
        told = read_texts(options.truth, {name: _names(name, options.columns) for name in EXTRA})
        tables.append(_truth_table(truth.ids.to_pylist(), truth.latlon, told))
    if not tables:
        raise InputError("where were the images taken? name a table of their places with --truth")
    truth_table = pa.concat_tables(tables)
    latlon = np.stack([truth_table[name].to_numpy() for name in ("latitude", "longitude")], axis=1)
    found = split_images(
        latlon,
        options.rules,
        _texts(truth_table, "group"),
        [read_points(path) for path in options.benchmarks],
        _texts(truth_table, "split"),
    )
    at = truth_table.schema.get_field_index("split")
    return truth_table.set_column(at, "split", pa.array(found, pa.string()))


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
