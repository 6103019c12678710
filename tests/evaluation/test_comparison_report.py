"""The report of two runs: what it holds, and that it is one file that loads nothing."""

import json
import re

import pytest
from prediction_rows import answer, problem, write_run

from geo_ray.errors import InputError
from geo_ray.evaluation.comparison_report import write_comparison_report


def content_of(path):
    page = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)[1])


@pytest.fixture
def runs(tmp_path):
    """Twenty places on the equator; the second run is 1 degree off, in one image 0.1 degrees, where the first is 5."""
    first = [answer(f"i{n:02d}.jpg", 5.0 if n == 7 else 0.01 * n, float(n), radius_km_90=None) for n in range(20)]
    second = [answer(f"i{n:02d}.jpg", 0.1 if n == 7 else 1.0, float(n)) for n in range(20)]
    first.append(problem("p.jpg"))
    second.append(answer("p.jpg", 0.0, 50.0))
    truth = "id,lat,lon\n" + "".join(f"i{n:02d},0,{n}\n" for n in range(20)) + "p,0,50\n"
    for name, rows in (("a", first), ("b", second)):
        write_run(tmp_path / name, rows)
    (tmp_path / "b" / "truth.csv").write_text(truth)
    return str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "comparison.html"


def test_report_of_two_runs(runs):
    first, second, output = runs
    assert write_comparison_report(first, second, output=output) == output
    content = content_of(output)
    assert content["kind"] == "comparison"
    assert [run["path"] for run in content["runs"]] == [first, second]
    assert (content["num_images"], content["num_drawable"], len(content["map"]["other_km"])) == (21, 20, 20)
    nearer = content["first_nearer"]
    assert [one["id"] for one in nearer[:2]] == ["i00.jpg", "i01.jpg"]  # by how much, in km
    assert nearer[0]["answer"]["error_km"] == 0.0
    assert nearer[0]["other"]["error_km"] == pytest.approx(111.2, abs=0.1)
    assert [one["id"] for one in content["second_nearer"]] == ["i07.jpg"]
    rows = {row["label"]: row for row in content["rows"]}
    median = rows["median error"]
    assert median["value"] == pytest.approx(median["first"] - median["second"])
    assert median["value"] < 0
    assert rows["within 25 km"]["shown"]
    assert content["distributions"]["names"] == ["first", "second"]


def test_no_difference_is_said_of_a_run_and_itself(runs):
    _, second, output = runs
    content = content_of(write_comparison_report(second, second, output=output))
    assert not any(row["shown"] for row in content["rows"])
    assert content["first_nearer"] == content["second_nearer"] == []


def test_two_runs_need_true_places(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, [answer("i", 0.0, 0.0)])
    with pytest.raises(InputError, match="--truth"):
        write_comparison_report(str(tmp_path / "a"), str(tmp_path / "b"), output=tmp_path / "c.html")


def test_page_loads_nothing_and_names_stay_texts(tmp_path):
    evil = "</script><img src=x onerror=alert(2)>.jpg"
    for name, latitude in (("a", 1.0), ("b", 2.0)):
        write_run(tmp_path / name, [answer(evil, latitude, 0.0)])
    (tmp_path / "truth.csv").write_text(f'id,lat,lon\n"{evil}",0,0\n')
    paths = str(tmp_path / "a"), str(tmp_path / "b")
    path = write_comparison_report(*paths, truth=tmp_path / "truth.csv", output=tmp_path / "c.html")
    page = re.sub(r"<script>.*?</script>", "", path.read_text(), flags=re.S)
    assert "onerror" not in re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.S)
    assert not re.search(r'(src|href)="http', page)
    assert content_of(path)["first_nearer"][0]["id"] == evil
