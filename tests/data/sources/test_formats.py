"""The same images through every source, in files of the public formats."""

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from geo_ray.data.sources import SourceOptions, batches, open_sources
from geo_ray.pipeline.columns import num_rows
from geo_ray.tables.joining import join
from tests.data.source_files import hex_folders, small_images, write_all
from tests.data.web_server import policy, serving

NUM_IMAGES = 500


@pytest.fixture(scope="module")
def images():
    return small_images(NUM_IMAGES)


@pytest.fixture(scope="module")
def written(images, tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("sources"), images)


SOURCES = ["folder", "pattern", "a.csv", "a.tsv.gz", "a.jsonl", "a.parquet", "a.txt", "geoclip.csv", "webdataset",
           "webdataset braces", "img2dataset", "img2dataset parquet", "parquet paths", "parquet nothing",
           "parquet binary", "zip", "msgpack", "yfcc100m_hash", "yfcc100m_dataset"]  # fmt: skip


def read(sources):
    """All rows, each shard as it is after it was sent elsewhere."""
    return [row for shard in sources.shards() for row in pickle.loads(pickle.dumps(shard)).rows()]


def test_all_sources_are_tested(written):
    assert sorted(written) == sorted(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_images_come_through_every_source(written, images, name):
    source = written[name]
    rows = read(open_sources(source.inputs, source.options))
    assert {row.image_id: row.contents for row in rows} == {
        image_id: (images.get(image_name),) for image_id, image_name in source.names.items()
    }
    assert len(rows) == len(source.names)
    assert all(row.problem == ("" if source.names[row.image_id] else "fetch_failed") for row in rows)


@pytest.mark.parametrize("name", SOURCES)
def test_shards_and_their_rows_stay_the_same(written, name):
    source = written[name]
    sources = open_sources(source.inputs, source.options)
    shards, again = list(sources.shards()), list(open_sources(source.inputs, source.options).shards())
    assert [shard.shard_id for shard in shards] == [shard.shard_id for shard in again]
    assert len({shard.shard_id for shard in shards}) == len(shards)
    assert [row.image_id for row in read(sources)] == [row.image_id for row in read(sources)]


@pytest.mark.parametrize("name", SOURCES)
def test_what_shards_say_of_themselves_is_so(written, name):
    source = written[name]
    sources = open_sources(source.inputs, replace(source.options, rows_per_shard=60))
    shards = list(sources.shards())
    assert len(shards) > 1
    for shard in shards:
        rows = list(shard.rows())
        assert shard.num_rows in (None, len(rows))
        assert shard.label
        assert all(len(row.uris) <= sources.num_views == 1 for row in rows)
    assert sources.num_rows in (None, NUM_IMAGES)


@pytest.mark.parametrize("name", ["img2dataset", "img2dataset parquet"])
def test_img2datasets_rows_name_the_urls_they_came_from(written, name):
    rows = read(open_sources(written[name].inputs))
    assert {row.image_id: row.uris[0] for row in rows if row.image_id in written[name].uris} == {
        image_id: uri for image_id, uri in written[name].uris.items() if image_id in written[name].names
    }


def test_the_rows_of_all_sources_have_ids_to_join_by(written, images):
    by_name = {"folder", "a.csv", "geoclip.csv", "webdataset", "parquet paths", "parquet binary", "zip", "msgpack"}
    for name in by_name:
        joined, _ = join(pa.array(list(written[name].names)), pa.array(sorted(images)))
        assert len(joined) == len(images)


def test_lists_of_urls_are_fetched(images, tmp_path):
    some = dict(itertools.islice(images.items(), 40))
    pages = {f"folder/{hex_folders(name)}": lambda h, body=body: h.reply(body=body) for name, body in some.items()}
    with serving(pages) as server:
        written = write_all(tmp_path, some, server.url)
        lists = {name: source for name, source in written.items() if name.startswith("urls ")}
        assert len(lists) == 3
        for source in lists.values():
            rows = read(open_sources(source.inputs, SourceOptions(fetch=policy())))
            assert {row.image_id: row.contents for row in rows} == {i: (some[n],) for i, n in source.names.items()}
            assert {row.image_id: row.uris[0] for row in rows} == source.uris
            refused = read(open_sources(source.inputs))
            assert {row.problem for row in refused} == {"blocked_address"}


def test_rows_become_batches_of_bounded_size(written, images):
    (shard,) = open_sources([written["a.csv"].inputs[0]], SourceOptions(rows_per_shard=5000)).shards()
    size = max(map(len, images.values()))
    made = list(batches(shard.rows(), max_rows=64, max_bytes=20 * size))
    assert sum(num_rows(batch) for batch in made) == NUM_IMAGES
    assert all(1 <= num_rows(batch) <= 64 for batch in made)
    assert all(sum(map(len, batch["bytes"])) < 21 * size for batch in made)
    assert set(made[0]) == {"image_id", "uri", "bytes", "problem"}
    assert np.concatenate([batch["image_id"] for batch in made]).tolist() == list(images)
