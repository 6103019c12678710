"""The same images through every source get the same answers from the bulk job.

The crops as a folder are the oracle. ``memory://`` can't be tested so, as it lies in one process; S3 is in
test_bulk_s3.
"""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.data.sources import SourceOptions
from geo_ray.remote.place import Place
from tests.crops import jpeg_crops
from tests.data.source_files import Written, hex_folders, write_all, write_folder
from tests.data.web_server import policy, serving

NUM_IMAGES = 60
PLACE = Place(num_workers=1, batch_size=64)  # to start workers takes longer than to answer
WORDS = ("cell_id", "country", "region", "place", "problem", "bundle_fingerprint")
NUMBERS = (
    "latitude", "longitude", "probability", "region_probability", "country_probability", "radius_km_50", "radius_km_90",
    "unlike", "cell_latitude", "cell_longitude",
)  # fmt: skip
# One of each format and way to name it; tests/data/test_sources_formats.py reads the variants of each.
SOURCES = ["pattern", "file URI", "a.csv", "a.jsonl", "a.parquet", "urls flickr.csv", "urls yfcc100m_dataset",
           "parquet paths", "webdataset", "img2dataset", "zip", "msgpack"]  # fmt: skip


@pytest.fixture(scope="module")
def images():
    """Crops by names like Flickr's ids."""
    return {str(7_000_000_000 + number * 7919): content for number, content in enumerate(jpeg_crops(NUM_IMAGES))}


@pytest.fixture(scope="module")
def written(images, tmp_path_factory):
    """Every source of the images; URLs are served while the tests run."""
    folder = tmp_path_factory.mktemp("sources")
    pages = {f"folder/{hex_folders(name)}": lambda h, body=body: h.reply(body=body) for name, body in images.items()}
    with serving(pages) as server:
        found = write_all(folder, images, server.url)
        for name in [name for name in found if name.startswith("urls ")]:
            found[name] = replace(found[name], options=SourceOptions(fetch=policy(connections_per_host=16)))
        uri = f"file://{folder}/folder"
        yield found | {"file URI": Written(inputs=[uri], names=found["folder"].names)}


def answers(source, output):
    """The job's answers by the images' names; each image has one."""
    job = prepare(GeotagOptions(inputs=tuple(source.inputs), output=str(output), sources=source.options))
    manifest = geotag(job, PLACE)
    rows = pq.read_table(output / "predictions").to_pylist()
    assert len(rows) == manifest["num_images"] == len(source.names)
    assert {row["image_id"] for row in rows} == set(source.names)
    for row in rows:
        if row["image_id"] in source.uris:
            assert row["uri"] == source.uris[row["image_id"]]
    dead = [row["problem"] for row in rows if source.names[row["image_id"]] is None]
    assert set(dead) <= {"fetch_failed"}
    assert sum(manifest["problems"].values()) == len(dead)
    return {name: row for row in rows if (name := source.names[row["image_id"]]) is not None}


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory, ray_session):
    """The answers from a folder."""
    place = tmp_path_factory.mktemp("folder")
    found = answers(write_folder(place / "in", images)["folder"], place / "out")
    assert len(found) == NUM_IMAGES
    assert len({row["cell_id"] for row in found.values()}) > NUM_IMAGES / 2
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_images_get_the_same_answers(written, expected, name, tmp_path):
    found = answers(written[name], tmp_path)
    assert found.keys() == expected.keys()
    for image_name, row in found.items():
        oracle = expected[image_name]
        assert {word: row[word] for word in WORDS} == {word: oracle[word] for word in WORDS}
        assert [place["cell_id"] for place in row["candidates"]] == [place["cell_id"] for place in oracle["candidates"]]
        np.testing.assert_allclose(
            *(np.array([each[number] for number in NUMBERS], float) for each in (row, oracle)), rtol=0, atol=1e-6
        )
