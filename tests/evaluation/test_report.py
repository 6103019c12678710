import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from prediction_rows import SCHEMA, answer, problem, write_run
from small_partitions import boxes_of

from geo_ray.cells.partition_file import write_partition
from geo_ray.errors import InputError, OutputError
from geo_ray.evaluation.report import NUM_CARDS, json_for_script, write_report
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import OUTPUT, graph_of
from geo_ray.pipeline.local import run_local

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028.jpg"
MANIFEST = {
    "images_per_second": 123.0,
    "bundle": {"ref": "earth-tiny", "kind": "cells", "description": "for <b>tests</b>", "fingerprint": "abc"},
}


def content_of(page):
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)[1])


def markup_of(page):
    """The page without its own script, whose templates are markup too."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.S)


def write(run, **more):
    return write_report(run, **more).read_text(encoding="utf-8")


@pytest.fixture
def rows():
    """Thirty answers at rising distance from (0, 179.9), over the antimeridian, and two problems."""
    answers = [answer(f"i{n:02d}.jpg", 0.0, -180.0 + n) for n in range(30)]
    return [*answers, problem("p1"), problem("p2", "too_large")]


@pytest.fixture
def truth(make_truth):
    names = [*(f"i{n:02d}" for n in range(30)), "p1", "p2"]
    return make_truth("id,lat,lon\n" + "".join(f"{name},0,179.9\n" for name in names))


def test_report_with_truth(make_run, rows, truth):
    run = make_run(rows, manifest=MANIFEST)
    path = write_report(run, truth=truth)
    assert path == run / "report.html"
    content = content_of(path.read_text(encoding="utf-8"))
    assert content["metrics"]["num_images"] == 32
    assert content["metrics"]["num_problems"] == 2
    assert (content["num_images"], content["num_answered"], content["num_drawable"]) == (32, 30, 30)
    assert content["bundle"]["ref"] == "earth-tiny"
    assert [one["id"] for one in content["best"]] == [f"i{n:02d}.jpg" for n in range(NUM_CARDS)]
    assert [one["id"] for one in content["worst"]][:2] == ["i29.jpg", "i28.jpg"]
    best = content["best"][0]
    assert best["answer"]["error_km"] == pytest.approx(11.12, abs=0.01)  # 0.1 degree over the antimeridian
    assert best["truth"]["latlon"] == [0.0, 179.9]
    assert best["picture"] is None
    assert [one["probability"] for one in best["candidates"]] == [0.75, 0.25]
    assert {one["code"]: one["count"] for one in content["problems"]} == {"undecodable": 1, "too_large": 1}
    assert len(content["map"]["id"]) == len(content["map"]["true_latlon"]) == 30
    assert not list(run.glob("*.partial"))


def test_report_without_truth_orders_by_radius(make_run):
    run = make_run([answer(f"i{n}", 1.0, 2.0, radius_km_90=float(n)) for n in range(1, 8)], manifest=MANIFEST)
    content = content_of(write(run))
    assert content["metrics"] is None
    assert content["map"]["true_latlon"] is None
    assert [one["id"] for one in content["best"]] == ["i1", "i2", "i3"]
    assert [one["id"] for one in content["worst"]] == ["i7", "i6", "i5"]
    assert content["best"][0]["truth"] is None


def test_truth_beside_the_predictions_is_used(make_run, rows, truth):
    run = make_run(rows)
    truth.rename(run / "truth.csv")
    assert content_of(write(str(run)))["metrics"]["num_images"] == 32


def test_page_loads_nothing(make_run, rows, truth):
    page = write(make_run(rows, manifest=MANIFEST), truth=truth)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    code = re.sub(r"/\*!.*?\*/", "", script, flags=re.S)  # licences name addresses
    hosts = re.findall(r"(?:https?:)?//([\w-]+(?:\.[\w-]+)+)", page.replace(script, code))
    assert set(hosts) == {"www.w3.org"}  # names of XML's vocabularies, which nothing loads
    assert not re.search(r"url\(|@import", style)
    assert not re.search(r"<link|<iframe|<object|\ssrc\s*=|\shref\s*=|\sstyle\s*=", markup_of(page))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy  # whatever the libraries could load, the browser refuses
    assert "unsafe" not in policy
    for text, directive in ((style, "style-src"), (script, "script-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_names_of_files_stay_texts(make_run, make_truth):
    rows = [answer(EVIL, 1.0, 2.0, place="{{SCRIPT}}<b>", uri=EVIL), problem("</script><script>alert(3)//")]
    run = make_run(rows, manifest=MANIFEST)
    page = write(run)
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "<img" not in markup_of(page)
    assert "\u2028" not in page
    content = content_of(page)
    assert content["best"][0]["id"] == content["map"]["id"][0] == EVIL
    assert content["map"]["labels"][0].startswith("{{SCRIPT}}<b>")
    assert content["problems"][0]["examples"] == ["</script><script>alert(3)//"]


def test_json_survives_anything():
    text = "".join(map(chr, [*range(0x300), 0x2028, 0x2029, 0xDC80, 0x1F600]))
    assert json.loads(json_for_script({"x": text})) == {"x": text}
    with pytest.raises(ValueError, match="JSON"):
        json_for_script(float("nan"))


def test_all_problems(make_run, make_truth):
    run = make_run([problem("a"), problem("b")])
    for more in ({}, {"truth": make_truth("id,lat,lon\na,1,2\nb,3,4\n")}):
        content = content_of(write(run, **more))
        assert content["num_answered"] == 0
        assert content["best"] == content["worst"] == content["map"]["id"] == []
        assert content["problems"][0]["count"] == 2


def test_no_images_and_one_image(make_run, tmp_path):
    assert content_of(write(make_run([])))["num_images"] == 0
    one = content_of(write(write_run(tmp_path / "one", [answer("a", 1.0, 2.0)])))
    assert [len(one["best"]), len(one["worst"])] == [1, 0]


def test_pictures_are_embedded_where_they_can_be_read(make_run, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (40, 30), "green").save(images / "good.jpg")
    (images / "bad.jpg").write_bytes(b"no image")
    names = ("good.jpg", "bad.jpg", "gone.jpg")
    run = make_run([answer(name, 1.0, 2.0, uri=str(images / name)) for name in names])
    for more in ({}, {"images": images}, {"images": str(images)}):
        content = content_of(write(run, **more))
        pictures = {one["id"]: one["picture"] for one in content["best"] + content["worst"]}
        assert pictures["good.jpg"].startswith("data:image/jpeg;base64,")
        assert pictures.get("bad.jpg") is None
        assert pictures.get("gone.jpg") is None


def test_unfinished_run_is_said(make_run):
    assert content_of(write(make_run([answer("a", 1.0, 2.0)], finished=False)))["finished"] is False


def test_unusable_folders_are_named(make_run, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_report(tmp_path / "missing")
    run = make_run([answer("a", 1.0, 2.0)])
    (run / "report.html").mkdir()
    with pytest.raises(OutputError, match="can't be written"):
        write_report(run)
    assert not list(run.glob("*.partial"))


def test_what_the_graph_answers_can_be_reported(tmp_path):
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(5):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(buffer, "JPEG")
        contents.append(buffer.getvalue())
    ids = [f"{n}.jpg" for n in range(6)]
    batch = source_batch(ids, [""] * 6, [*contents, b"no image"], [""] * 6)
    (answers,) = run_local(graph_of(open_bundle("earth-tiny")), [batch])
    assert set(OUTPUT) <= set(SCHEMA.names)
    rows = [{name: answers[name][row] for name in OUTPUT} for row in range(6)]
    for row in rows:
        row["candidates"] = list(row["candidates"])
    content = content_of(write(write_run(tmp_path / "run", rows)))
    assert content["num_answered"] == 5
    assert len(content["best"][0]["candidates"]) == 5
    assert content["problems"] == [{"code": "undecodable", "count": 1, "examples": ["5.jpg"]}]


def cells_of(page):
    return re.search(r'<section id="cells".*?</section>', page, re.S)


@pytest.fixture
def bundle(tmp_path):
    """What a report needs of a bundle with cells, and a manifest of a run with it."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text('{"fingerprint": "f1"}')
    write_partition(boxes_of([10, 40, 70]), folder / "cells.parquet")
    return folder, {"bundle": {"ref": str(folder), "kind": "cells", "description": "", "fingerprint": "f1"}}


def test_cells_of_the_bundle_are_shown(make_run, rows, bundle):
    page = write(make_run(rows, manifest=bundle[1]))
    assert "3 cells with 120 training points" in cells_of(page)[0]
    assert re.findall(r"\ssrc=\"(.{22})", markup_of(page)) == ["data:image/png;base64,"]
    assert content_of(page)["num_answered"] == 30


@pytest.mark.parametrize("damage", ["gone", "other", "no json", "no manifest", "no cells", "unreadable cells"])
def test_a_report_does_not_need_the_bundle(make_run, rows, bundle, damage):
    folder, manifest = bundle
    if damage == "gone":
        folder.rename(folder.with_name("elsewhere"))
    elif damage == "other":
        manifest["bundle"]["fingerprint"] = "f2"
    elif damage in ("no json", "no manifest"):
        (folder / "bundle.json").write_text("[1]" if damage == "no manifest" else "{")
    elif damage == "no cells":
        (folder / "cells.parquet").unlink()
    else:
        (folder / "cells.parquet").write_bytes(b"PAR1")
    page = write(make_run(rows, manifest=manifest))
    assert re.search("not shown|can't be shown|can&#x27;t be shown", cells_of(page)[0])
    assert "<img" not in markup_of(page)
    assert content_of(page)["num_answered"] == 30


def test_bundles_of_other_kinds_have_no_cells(make_run, rows, bundle):
    bundle[1]["bundle"]["kind"] = "gallery"
    assert cells_of(write(make_run(rows, manifest=bundle[1]))) is None
