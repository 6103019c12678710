"""Published files in their own layouts: written here, read as the benchmark says."""

import json

import numpy as np
import pytest
from prediction_rows import answer, write_run

from geo_ray.cli import main
from geo_ray.errors import InputError
from geo_ray.evaluation.benchmarks import BENCHMARKS, read_benchmark
from geo_ray.evaluation.comparison import compare
from geo_ray.evaluation.evaluate import evaluate
from geo_ray.evaluation.published_results import SHARES_KM
from geo_ray.evaluation.tables import read_predictions
from geo_ray.geo.metrics import MAIN_THRESHOLDS_KM

HEAD = "IMG_ID,AUTHOR,LAT,LON,S3_Label,S16_Label,S365_Label,Prob_indoor,Prob_natural,Prob_urban\n"
REST = ",0,3,120,0.1,0.2,0.7\n"


def geo_estimation(path, points, head=HEAD):
    rows = [f"{n}_{n:x}a_1.jpg,user{n // 2},{a},{b}{REST}" for n, (a, b) in enumerate(points)]
    path.write_text(head + "".join(rows))
    return path


def test_geo_estimation_groups_by_author(tmp_path):
    path = geo_estimation(tmp_path / "im2gps3k.csv", [(48.9, 2.3), (48.8, 2.4), (35.0, 139.0)])
    found = read_benchmark("im2gps3k", path)
    assert found.truth.latlon.tolist() == [[48.9, 2.3], [48.8, 2.4], [35.0, 139.0]]
    assert found.truth.groups.tolist() == ["user0", "user0", "user1"]
    assert any("has 3,000 images" in note and "3" in note for note in found.notes)


def test_swapped_headers_are_noticed(tmp_path):
    points = [(2.3, 48.9), (139.0, 35.0), (-122.4, 37.8)]  # longitude under LAT
    found = read_benchmark("im2gps3k", geo_estimation(tmp_path / "old.csv", points))
    assert found.truth.latlon.tolist() == [[48.9, 2.3], [35.0, 139.0], [37.8, -122.4]]
    assert any("swapped" in note for note in found.notes)


def test_what_is_no_place_either_way_is_refused(tmp_path):
    with pytest.raises(InputError, match="correct or remove these rows"):
        read_benchmark("im2gps", geo_estimation(tmp_path / "bad.csv", [(139.0, 35.0), (35.0, 139.0)]))


def test_rows_at_zero_are_counted(tmp_path):
    found = read_benchmark("yfcc4k", geo_estimation(tmp_path / "zero.csv", [(0, 0), (1, 2), (0, 0.0)]))
    assert any(note.startswith("2 rows") and "(0, 0)" in note for note in found.notes)


def test_osv5m_takes_its_countries_and_has_no_sequences_to_group_by(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text(
        "id,latitude,longitude,thumb_original_url,country,sequence,captured_at,region,city\n"
        "10,1.5,2.5,http://x,GH,s1,1,Volta,Ho\n11,1.6,2.6,http://x,GH,s1,2,Volta,Ho\n"
    )
    truth = read_benchmark("osv5m", path).truth
    assert truth.ids.to_pylist() == ["10", "11"]
    assert truth.groups is None
    assert truth.countries.tolist() == ["GH", "GH"]


def test_gws15k_and_mp16(tmp_path):
    (tmp_path / "gws.csv").write_text("FILE,LAT,LON,CITY,COUNTRY\na.jpg,1,2,Ho,Ghana\n")
    assert read_benchmark("gws15k", tmp_path / "gws.csv").truth.countries.tolist() == ["Ghana"]
    (tmp_path / "mp16.csv").write_text("IMG_ID,LAT,LON\n3f/2b/1.jpg,1,2\n")
    found = read_benchmark("mp16", tmp_path / "mp16.csv")
    assert any("no test" in note for note in found.notes)


def test_pigeons_hold_out_is_the_test_rows(tmp_path):
    path = tmp_path / "holdout.csv"
    path.write_text("image,lat,lng,selection,country_name\na,1,2,train,Ghana\nb,3,4,test,Togo\nc,5,6,val,Mali\n")
    truth = read_benchmark("pigeon", path).truth
    assert truth.ids.to_pylist() == ["b"]
    assert truth.latlon.tolist() == [[3.0, 4.0]]


def test_pitts_ial_takes_places_from_names(tmp_path):
    name = "queries/@0583677.10@4477047.50@17@T@040.43961@-080.01231@000003@01@090@@@@@.jpg"
    path = tmp_path / "pitts_queries.json"
    path.write_text(json.dumps({name: ["a caption", "Fifth Avenue, Oakland", "Fifth Avenue"]}))
    assert read_benchmark("pitts-ial", path).truth.latlon.tolist() == [[40.43961, -80.01231]]
    path.write_text(json.dumps({"000/000000_pitch1_yaw1.jpg": ["", "", ""]}))
    with pytest.raises(InputError, match=r"000000_pitch1_yaw1\.jpg.*hold no latitude"):
        read_benchmark("pitts-ial", path)
    path.write_text("[1, 2")
    with pytest.raises(InputError, match="no JSON object"):
        read_benchmark("pitts-ial", path)


def test_an_unknown_benchmark_lists_the_known(tmp_path):
    with pytest.raises(InputError, match="no benchmark is called 'imagenet'; there are im2gps, "):
        read_benchmark("imagenet", tmp_path / "x.csv")


def test_published_figures_are_percent_of_growing_circles():
    assert SHARES_KM == MAIN_THRESHOLDS_KM
    for benchmark in BENCHMARKS.values():
        for row in benchmark.results:
            known = [share for share in row.percent if share is not None]
            assert known == sorted(known)
            assert all(0 <= share <= 100 for share in known)
            assert len(row.percent) == len(SHARES_KM)


def test_pigeons_radius_makes_distances_longer(tmp_path):
    truth = read_benchmark("yfcc4k", geo_estimation(tmp_path / "one.csv", [(0, 0)])).truth
    run = read_predictions(write_run(tmp_path / "r", [answer("0_0a_1", 1.0, 0.0)]))
    mean = evaluate(run, truth)["median_error_km"]
    pigeon = evaluate(run, truth, compare(run, truth, 6378.137))["median_error_km"]
    assert mean == pytest.approx(np.pi * 6371.0088 / 180)
    assert pigeon == pytest.approx(np.pi * 6378.137 / 180)


def test_the_command_shows_others_beside_and_counts_what_is_missing(tmp_path, capsys):
    path = geo_estimation(tmp_path / "im2gps3k.csv", [(n / 10, n) for n in range(30)])
    run = write_run(tmp_path / "run", [answer(f"{n}_{n:x}a_1", n / 10, float(n)) for n in range(20)])
    assert main(["evaluate", str(run), "--truth", str(path), "--benchmark", "im2gps3k"]) == 0
    text = capsys.readouterr().out
    assert "PIGEOTTO" in text
    assert "147.3" in text
    assert "this run" in text
    assert "10 rows of truth without prediction" in text
    assert "IM2GPS3k has 3,000 images" in text
    assert "column 'AUTHOR'" in text
    assert main(["evaluate", str(run), "--truth", str(path), "--benchmark", "nope"]) == 2
