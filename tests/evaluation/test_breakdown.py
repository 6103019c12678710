import shutil

import numpy as np
import pytest
from prediction_rows import answer, problem

from geo_ray.cells.labels import nearest_centers
from geo_ray.cells.partition_file import read_partition
from geo_ray.evaluation.breakdown import by_continent, by_country, confused_countries, coverage_by_fifth
from geo_ray.evaluation.comparison import compare, load
from geo_ray.models.bundle import open_bundle

PARIS, LYON, TOKYO = (48.86, 2.35), (45.76, 4.84), (35.68, 139.69)


@pytest.fixture
def comparison(make_run, make_truth):
    """Four photos of Paris answered rightly, one of Lyon 111 km off, one of Tokyo without an answer."""
    rows = [answer(f"p{n}", *PARIS) for n in range(4)]
    rows += [answer("l", LYON[0] + 1, LYON[1], radius_km_90=50.0), problem("t")]
    truth = "id,lat,lon\n" + "".join(f"p{n},{PARIS[0]},{PARIS[1]}\n" for n in range(4))
    truth += f"l,{LYON[0]},{LYON[1]}\nt,{TOKYO[0]},{TOKYO[1]}\n"
    return compare(*load(str(make_run(rows)), str(make_truth(truth))))


def test_continents_by_place(comparison):
    found = by_continent(comparison)
    assert list(found) == ["Europe", "Asia"]
    europe = found["Europe"]
    assert (europe["num_images"], europe["num_places"]) == (5, 2)
    assert europe["within_25_km"] == 0.5
    assert europe["within_200_km"] == 1.0
    assert europe["median_error_km"] == pytest.approx(111.2 / 2, abs=0.1)  # between two places
    assert europe["radius_coverage_90"] == 0.5
    asia = found["Asia"]
    assert (asia["within_200_km"], asia["median_error_km"], asia["radius_coverage_90"]) == (0.0, None, None)


def test_countries(comparison):
    assert {code: part["num_images"] for code, part in by_country(comparison).items()} == {"FR": 5, "JP": 1}


def test_countries_taken_for_others(make_run, make_truth):
    """Two places of France are Spain, one of them half; three of France there are, and Japan has no answer."""
    rows = [answer(f"a{n}", *PARIS, country="ES" if n % 2 else "FR") for n in range(4)]
    rows += [answer("b", *LYON, country="ES"), answer("c", 43.3, 5.4), problem("t")]
    truth = "id,lat,lon,country\n" + "".join(f"a{n},{PARIS[0]},{PARIS[1]},FR\n" for n in range(4))
    truth += f"b,{LYON[0]},{LYON[1]},FR\nc,43.3,5.4,FR\nt,{TOKYO[0]},{TOKYO[1]},JP\n"
    found = confused_countries(compare(*load(str(make_run(rows)), str(make_truth(truth)))))
    assert found == [{"true": "FR", "answered": "ES", "num_places": 1.5, "share_of_country": 0.5}]


def test_fifths_of_the_radius_by_place(make_run, make_truth):
    """Fifty places, of which those with large radii hold less; a place of many photos is one of its fifth."""
    truth, rows = "id,lat,lon\n", []
    for place in range(50):
        for photo in range(30 if place == 0 else 1):
            name = f"i{place}_{photo}"
            truth += f"{name},{place},0\n"
            off = 0.5 if place >= 40 else 0.0  # 55 km
            rows.append(answer(name, place + off, 0.0, radius_km_50=1.0 + place, radius_km_90=5.0 + place))
    fifths = coverage_by_fifth(compare(*load(str(make_run(rows)), str(make_truth(truth)))))
    assert [fifth["num_images"] for fifth in fifths] == [39, 10, 10, 10, 10]
    assert [fifth["covered_90"] for fifth in fifths] == pytest.approx([1, 1, 1, 1, 0.0])
    assert (fifths[0]["from_km"], fifths[-1]["to_km"]) == (5.0, 54.0)
    low, high = fifths[0]["covered_90_interval_95"]
    assert (low, high) == (1.0, 1.0)


def test_no_radius_no_fifths(make_run, make_truth):
    rows = [answer("a", 1.0, 2.0, radius_km_50=None, radius_km_90=None)]
    assert coverage_by_fifth(compare(*load(str(make_run(rows)), str(make_truth("id,lat,lon\na,1,2\n"))))) == []


def test_right_cells_where_the_bundle_is_in_reach(make_run, make_truth):
    """Of the shipped bundle: the answer's cell, another candidate's, and a bundle that is gone."""
    bundle = open_bundle("earth-tiny")
    partition = read_partition(bundle.path("cells.parquet"))
    point = np.array([PARIS])
    right = partition.cell_ids[nearest_centers(point, partition)[0]]
    other = partition.cell_ids[0] if partition.cell_ids[0] != right else partition.cell_ids[1]
    rows = [
        answer(name, *PARIS, cell_id=chosen, candidates=[{"cell_id": cell, "probability": 0.5} for cell in cells])
        for name, chosen, cells in (("a", right, [right]), ("b", other, [other, right]), ("c", other, [other]))
    ]
    truth = make_truth("id,lat,lon\n" + "".join(f"{name},{PARIS[0]},{PARIS[1]}\n" for name in "abc"))
    manifest = {"bundle": {"ref": "earth-tiny", "fingerprint": bundle.fingerprint}}
    found = compare(*load(str(make_run(rows, manifest=manifest)), str(truth)))
    order = np.argsort(found.matching.truth_rows)
    assert found.right_cell[order].tolist() == [True, False, False]
    assert found.among_candidates[order].tolist() == [True, True, False]


def test_a_table_without_candidates_and_a_bundle_that_is_damaged(tmp_path, make_run, make_truth):
    """What can't be known is None, and nothing is read that isn't needed."""
    bundle = open_bundle("earth-tiny")
    truth = make_truth("id,lat,lon\na,48.9,2.3\n")
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    (folder / "weights.safetensors").unlink()
    manifest = {"bundle": {"ref": str(folder), "fingerprint": bundle.fingerprint}}
    run = make_run([answer("a", *PARIS)], manifest=manifest)
    assert compare(*load(str(run), str(truth))).right_cell.tolist() == [False]
    (run / "csv").mkdir()
    (run / "csv" / "answers.csv").write_text("image_id,latitude,longitude,cell_id\na,48.9,2.3,x\n")
    table = compare(*load(str(run / "csv" / "answers.csv"), str(truth)))
    assert table.right_cell.tolist() == [False]
    assert table.among_candidates is None
    (folder / "cells.parquet").write_bytes(b"damaged")
    assert compare(*load(str(run), str(truth))).right_cell is None
