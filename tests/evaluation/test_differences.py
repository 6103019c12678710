import json

import numpy as np
import pytest
from prediction_rows import answer, problem, write_run

from geo_ray.cli import main
from geo_ray.errors import InputError
from geo_ray.evaluation.comparison import compare
from geo_ray.evaluation.differences import compare_runs
from geo_ray.evaluation.tables import read_predictions, read_truth

NUM_PLACES = 40


@pytest.fixture
def truth(tmp_path):
    """Two images in each of 40 places along the equator."""
    path = tmp_path / "truth.csv"
    rows = [f"i{n},0,{n // 2 * 2}\n" for n in range(2 * NUM_PLACES)]
    path.write_text("id,lat,lon\n" + "".join(rows))
    return path


def run(folder, degrees_off, numbers=range(2 * NUM_PLACES)):
    """Answers this many degrees north of the truth."""
    off = np.broadcast_to(degrees_off, 2 * NUM_PLACES)
    return write_run(folder, [answer(f"i{n}", float(off[n]), float(n // 2 * 2)) for n in numbers])


def compared(first, second, truth):
    table = read_truth(truth)
    return compare_runs(*(compare(read_predictions(each), table) for each in (first, second)))


def test_a_small_difference_of_every_place_is_shown_and_noise_is_not(tmp_path, truth):
    """Errors of places differ by hundreds of km; one run is 1 km worse everywhere, another as often better as worse."""
    rng = np.random.default_rng(0)
    place = np.repeat(rng.uniform(0.1, 5, NUM_PLACES), 2)
    noise = rng.normal(0, 0.05, 2 * NUM_PLACES)
    runs = [run(tmp_path / "a", place), run(tmp_path / "b", place + 0.01), run(tmp_path / "c", place + noise)]
    better = compared(runs[0], runs[1], truth)["difference"]["by_place"]["mean_error_km"]
    assert better["value"] == pytest.approx(-1.112, abs=0.001)
    assert better["shown"]
    assert better["interval_95"] == pytest.approx([-1.112, -1.112], abs=0.001)
    same = compared(runs[0], runs[2], truth)["difference"]["by_place"]["mean_error_km"]
    assert not same["shown"]
    assert same["interval_95"][0] < 0 < same["interval_95"][1]


def test_a_run_differs_from_itself_by_nothing(tmp_path, truth):
    one = run(tmp_path / "a", np.linspace(0, 3, 2 * NUM_PLACES))
    found = compared(one, one, truth)["difference"]
    for by in ("by_place", "by_photo"):
        median = found[by]["median_error_km"]
        assert (median["value"], median["interval_95"], median["shown"]) == (0.0, [0.0, 0.0], False)
        assert median["first"] == median["second"]


def test_answering_less_is_no_better_median(tmp_path, truth):
    """The same answers, of which one run leaves out the worst: what both answer does not differ."""
    off = np.linspace(0, 3, 2 * NUM_PLACES)
    every = run(tmp_path / "a", off)
    rows = [answer(f"i{n}", float(off[n]), float(n // 2 * 2)) if off[n] < 1 else problem(f"i{n}", "uncertain")
            for n in range(2 * NUM_PLACES)]  # fmt: skip
    found = compared(every, write_run(tmp_path / "b", rows), truth)["difference"]["by_place"]
    assert found["median_error_km"]["value"] == found["mean_error_km"]["value"] == 0.0
    assert not found["mean_error_km"]["shown"]
    assert found["accuracy_at_km"]["200"]["value"] > 0  # not answering is a miss


def test_only_images_of_both_runs_count(tmp_path, truth):
    first, second = run(tmp_path / "a", 0.0, range(30)), run(tmp_path / "b", 1.0, range(10, 70))
    found = compared(first, second, truth)
    assert found["first"]["num_images"] == found["second"]["num_images"] == 20
    assert found["first"]["by_place"]["num_places"] == 10
    assert found["second"]["median_error_km"] == pytest.approx(111.2, abs=0.1)
    with pytest.raises(InputError, match="no image in common"):
        compared(first, run(tmp_path / "c", 0.0, range(30, 40)), truth)


def test_the_command_prints_the_verdict(tmp_path, truth, capsys):
    first = run(tmp_path / "a", 0.1)
    second = write_run(tmp_path / "b", [problem(f"i{n}") for n in range(2 * NUM_PLACES)])
    arguments = ["evaluate", str(first), str(second), "--truth", str(truth), "--json", str(tmp_path / "m.json")]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "difference" in text
    assert "no difference shown" in text  # within 1 km, where neither has any
    assert "100.00 %" in text
    saved = json.loads((tmp_path / "m.json").read_text())
    assert saved["difference"]["by_place"]["accuracy_at_km"]["25"]["shown"]
    assert saved["second"]["median_error_km"] is None
    assert saved["difference"]["by_place"]["median_error_km"]["value"] is None
