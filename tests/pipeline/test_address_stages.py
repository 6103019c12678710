"""Addresses in the cells of another bundle, in one graph."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.atlas.address_lists import candidates_of
from geo_ray.cells.labels import file_points
from geo_ray.cells.partition_file import read_partition
from geo_ray.cli import main
from geo_ray.data.record.output_tables import prediction_table
from geo_ray.data.run.job import geotag
from geo_ray.data.run.preparation import GeotagOptions, prepare
from geo_ray.datasets import earth
from geo_ray.errors import BundleError, InputError
from geo_ray.index.gallery import read_gallery
from geo_ray.models.address_bundle import query_features, with_candidates, write_address_bundle
from geo_ray.models.bundle import CELLS, GALLERY, open_bundle
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.pipeline.columns import NO_ADDRESS, source_batch
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.local import run_local
from geo_ray.remote.place import Place
from geo_ray.serve.schema import BundleInfo, location
from tests.crops import jpeg_crops, write_crops
from tests.models.address_bundles import WORDS, addresses_at, grid_addresses, write_addresses_of_a_grid
from tests.models.checkpoint_files import write_hugging_face

CELLS_BUNDLE = "earth-tiny"
NUM_CROPS = 24


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_hugging_face(tmp_path_factory.mktemp("clip") / "hf")


@pytest.fixture(scope="module")
def world(clip, tmp_path_factory):
    """Addresses at photo locations all over the Earth."""
    latlon = earth.locations()
    latlon = latlon[np.random.default_rng(3).permutation(len(latlon))[:60]]
    folder = tmp_path_factory.mktemp("world") / "bundle"
    write_address_bundle(folder, read_checkpoint(clip), addresses_at(latlon), WORDS, num_candidates=4)
    return open_bundle(str(folder))


def answered(graph, crops):
    names = [str(number) for number in range(len(crops))]
    (answer,) = run_local(graph, [source_batch(names, names, crops, [""] * len(crops))])
    return answer


def test_only_addresses_in_the_most_probable_cells_are_answered(world):
    """Against a slow search of all addresses, of which those in other cells are struck out."""
    crops = jpeg_crops(NUM_CROPS)
    answer = answered(graph_of(world, within=CELLS_BUNDLE, top_k=4), crops)
    other = open_bundle(CELLS_BUNDLE)
    ranked = answered(graph_of(other, top_k=other.num_candidates), crops)
    cells_of_images = [{entry["cell_id"] for entry in row} for row in ranked["candidates"]]
    gallery, partition = read_gallery(world.path(GALLERY)), read_partition(other.path(CELLS))
    held = partition.cell_ids[file_points(gallery.latlon, partition, other.filed_by)]
    features = answered_features(world, crops)
    seen = 0
    for row, cells in enumerate(cells_of_images):
        inside = np.flatnonzero([cell in cells for cell in held])
        if not len(inside):
            assert answer["problem"][row] == NO_ADDRESS
            assert np.isnan(answer["latitude"][row])
            continue
        seen += 1
        logits = world.gallery_search.logit_scale * (gallery.features[inside].astype(np.float64) @ features[row])
        best = inside[np.argsort(-logits, kind="stable")]
        shares = np.sort(np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())[::-1]
        listed = [entry for entry in answer["candidates"][row] if entry["probability"] > 0]
        assert [entry["cell_id"] for entry in listed] == [f"street-{number}" for number in best[:4]]
        np.testing.assert_allclose([entry["probability"] for entry in listed], shares[:4], atol=1e-12)
        assert answer["address"][row] == f"located on Street {best[0]}"
        assert answer["street"][row] == f"Street {best[0]}"
    assert 0 < seen < NUM_CROPS


def answered_features(bundle, crops):
    from geo_ray.pipeline.graph import embedding_graph

    return answered(embedding_graph(bundle), crops)["image_features"].astype(np.float64)


def test_ray_data_answers_so_too(world, tmp_path, ray_session):
    write_crops(tmp_path / "in", NUM_CROPS, seed=5)
    options = GeotagOptions(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"), bundle=world.ref,
                            within=CELLS_BUNDLE, max_problem_share=1.0)  # fmt: skip
    geotag(prepare(options), Place(num_workers=1, batch_size=8))
    rows = {row["image_id"]: row for row in pq.read_table(tmp_path / "out" / "predictions").to_pylist()}
    names = sorted(rows)
    crops = [(tmp_path / "in" / name).read_bytes() for name in names]
    (answer,) = run_local(graph_of(world, within=CELLS_BUNDLE), [source_batch(names, names, crops, [""] * len(crops))])
    for expected in prediction_table(answer).to_pylist():
        for name in ("cell_id", "address", "street", "neighbourhood", "problem", "latitude"):
            assert rows[expected["image_id"]][name] == expected[name]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["within"] == CELLS_BUNDLE
    with pytest.raises(Exception, match="other"):
        prepare(GeotagOptions(inputs=options.inputs, output=options.output, bundle=world.ref, resume=True))


def test_what_cannot_go_together_is_refused(world):
    with pytest.raises(InputError, match="--within is for bundles of addresses, and earth-tiny is of kind cells"):
        graph_of(open_bundle(CELLS_BUNDLE), within=CELLS_BUNDLE)
    with pytest.raises(InputError, match="that bundle is of kind address; name one of kind cells"):
        graph_of(world, within=world.ref)
    with pytest.raises(BundleError, match="no bundle 'nowhere'"):
        graph_of(world, within="nowhere")


def test_over_http_an_answer_has_its_address(clip, tmp_path):
    write_addresses_of_a_grid(tmp_path / "grid", clip)
    bundle = open_bundle(str(tmp_path / "grid"))
    answer = answered(graph_of(bundle), jpeg_crops(1))
    body = location("x", answer, BundleInfo(ref="grid", fingerprint="f", description="d")).model_dump()
    assert body["address"] == answer["address"][0]
    assert body["street"] in body["address"]
    assert body["candidates"][0]["address"] == body["address"]
    assert len({candidate["address"] for candidate in body["candidates"]}) == 5


def test_other_candidates_are_embedded_once_and_lie_in_a_bundle_of_their_own(clip, tmp_path, capsys):
    write_addresses_of_a_grid(tmp_path / "grid", clip)
    bundle = open_bundle(str(tmp_path / "grid"))
    streets = candidates_of(grid_addresses(), "street")
    with_candidates(bundle, streets, tmp_path / "streets", say=lambda text: None)
    other = open_bundle(str(tmp_path / "streets"))
    assert other.encoder_fingerprint == bundle.encoder_fingerprint
    assert other.fingerprint != bundle.fingerprint
    features = read_gallery(other.path(GALLERY)).features
    np.testing.assert_allclose(features, query_features(bundle, streets.texts.tolist()), atol=1e-6)
    (tmp_path / "mine.csv").write_text("address\nthe corner of Row 1 and Column 2\n")
    command = ["address", "candidates", str(tmp_path / "grid"), str(tmp_path / "mine.csv")]
    assert main([*command, "--output", str(tmp_path / "mine")]) == 0
    assert "1 candidates" in capsys.readouterr().out
    one = answered(graph_of(open_bundle(str(tmp_path / "mine")), top_k=1), jpeg_crops(2))
    assert one["address"].tolist() == ["the corner of Row 1 and Column 2"] * 2
    assert main([*command, "--output", str(tmp_path / "mine")]) == 2
    assert "holds something" in capsys.readouterr().err
    assert main(["address", "candidates", "earth-tiny", "street", "--output", str(tmp_path / "no")]) == 2
    assert "of kind cells; name one of kind address" in capsys.readouterr().err
    (tmp_path / "long.csv").write_text("address,latitude,longitude\n" + "very " * 200 + "long street,40,-80\n")
    assert main(["address", "candidates", str(tmp_path / "grid"), str(tmp_path / "long.csv"), "--output",
                 str(tmp_path / "no")]) == 2  # fmt: skip
    assert "tokens, the model reads" in capsys.readouterr().err


def test_a_texts_map_is_a_picture_and_a_page(clip, tmp_path, capsys):
    write_addresses_of_a_grid(tmp_path / "grid", clip)
    out = tmp_path / "map.png"
    assert main(["address", "map", str(tmp_path / "grid"), "a <quiet> street", "--output", str(out)]) == 0
    assert "most like it: located in" in capsys.readouterr().out
    assert out.read_bytes()[:4] == b"\x89PNG"
    page = out.with_suffix(".html").read_text()
    assert "a &lt;quiet&gt; street" in page
    assert page.count("<title>located in") == len(grid_addresses())
    assert "http" not in page.replace("http-equiv", "")
    for bad, message in ((["", "--output", str(out)], "text is empty"),
                         (["a", "--output", "x.txt"], "is no picture")):  # fmt: skip
        assert main(["address", "map", str(tmp_path / "grid"), *bad]) == 2
        assert message in capsys.readouterr().err
