import hashlib
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import shapely
from small_partitions import boxes_of

from geo_ray.evaluation import figures, pages
from geo_ray.evaluation.cell_map import cells_section

ROOT = Path(__file__).parents[2]
PAGE = Path(pages.__file__).parent / "page"
REMEDY = "run make report-page and commit geo_ray/evaluation/page/report.js"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sources():
    own = [PAGE / name for name in ("build.mjs", "package.json", "package-lock.json")]
    return {path.relative_to(PAGE).as_posix(): path.read_bytes() for path in [*own, *(PAGE / "src").iterdir()]}


def sources_digest(files):
    return sha256("".join(f"{name} {sha256(files[name])}\n" for name in sorted(files)).encode())


@pytest.fixture(scope="module")
def bundle():
    return (PAGE / "report.js").read_text(encoding="utf-8")


def test_bundle_is_that_of_the_sources(bundle):
    assert re.search(r"^sources sha256 (\w{64})$", bundle, re.M)[1] == sources_digest(sources()), REMEDY


def test_every_source_counts():
    files = sources()
    assert len(files) > 10
    digests = {sources_digest(files | {name: files[name] + b" "}) for name in files}
    assert len(digests | {sources_digest(files)}) == len(files) + 1


def test_bundle_was_not_edited(bundle):
    code = bundle.split("*/\n", 1)[1]
    assert re.search(r"^code sha256 (\w{64})$", bundle, re.M)[1] == sha256(code.encode()), REMEDY


def test_libraries_keep_their_licences(bundle):
    banner = bundle.split("*/\n", 1)[0]
    libraries = json.loads((PAGE / "package.json").read_bytes())["dependencies"]
    locked = json.loads((PAGE / "package-lock.json").read_bytes())["packages"]
    for name, version in libraries.items():
        assert locked[f"node_modules/{name}"]["version"] == version
        assert f"\n{name} {version} ({locked[f'node_modules/{name}']['license']}). Copyright" in banner
    assert "Permission to use, copy, modify, and/or distribute this software" in banner
    assert "Redistributions in binary form must reproduce the above copyright" in banner


def test_bundle_can_stand_in_a_script_element(bundle):
    assert not re.search(r"</script|<script|<!--", bundle, re.I)


def test_sources_make_no_markup_of_texts():
    for name, source in sources().items():
        if name.startswith("src/"):
            markup = r"[iI]nnerHTML|outerHTML|insertAdjacentHTML|unsafe|document\.write|\beval\(|new Function|fetch\("
            assert not re.search(markup, source.decode()), name


def test_what_the_page_reads_is_in_the_package():
    (patterns,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"].values()
    shipped = {path for pattern in patterns for path in (ROOT / "geo_ray").glob(pattern)}
    needed = {PAGE / name for name in ("report.html", "cells.html", "heat.html", "report.css", "report.js")}
    assert {path for path in shipped if path.is_relative_to(PAGE)} == needed


def test_rings_run_as_d3_has_them():
    """Clockwise outside: a ring the other way around would be all of the Earth but the land."""
    layer = figures.base_layer()
    land = shapely.from_geojson(json.dumps(layer["land"]))
    assert not shapely.is_ccw(shapely.get_exterior_ring(shapely.get_parts(land))).any()
    assert shapely.is_ccw(shapely.get_rings(shapely.get_parts(land))).any()  # a lake
    assert layer["borders"]["type"] == "MultiLineString"
    assert "natural earth" in layer["source"].lower()
    # the middle of Brazil, of Russia and of Antarctica are land, that of the Atlantic isn't
    points = shapely.points(np.array([(-52.0, -10.0), (100.0, 62.0), (0.0, -85.0), (-30.0, 0.0)]))
    assert shapely.contains(land, points).tolist() == [True, True, True, False]


def test_tables_scroll_where_they_are_wider_than_the_page():
    region = r'<div class="scroll" tabindex="0" role="region" aria-label=[^>]+>'
    texts = [*(source.decode() for source in sources().values()), cells_section(boxes_of([10, 40, 70]))]
    tables = [text for text in texts if "<table>" in text]
    assert len(tables) == 2
    for text in tables:
        assert len(re.findall(region + r"\s*<table>", text)) == text.count("<table>")
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", (PAGE / "report.css").read_text(encoding="utf-8"))
