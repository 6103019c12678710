"""Every source: its shards and its rows, the same images through all of them, and what can't be told or read."""

import pickle

import pytest

from geo_ray.data.sources import open_sources
from tests.data.source_files import small_images, write_all

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
