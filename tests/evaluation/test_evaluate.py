import json

import numpy as np
import pytest
from prediction_rows import answer, problem

from geo_ray.errors import InputError
from geo_ray.evaluation.comparison import compare, country_codes, load
from geo_ray.evaluation.evaluate import evaluate
from geo_ray.evaluation.text import format_table

KM_A_DEGREE = 111.195  # of a great circle of 6371.0088 km radius

KEYS = {
    "num_images",
    "num_problems",
    "num_uncertain",
    "median_error_km",
    "mean_error_km",
    "accuracy_at_km",
    "geoguessr_score",
    "country_accuracy",
    "cell_centre",
    "radius_coverage",
    "intervals_95",
    "by_place",
    "region_accuracy",
    "radius_stated",
    "images_per_second",
}


def test_by_hand(make_run, make_truth):
    run = make_run(
        [
            answer("a", 48.0, 2.0, cell_latitude=49.0),  # 0 km, its cell 1 degree off
            answer("b", 0.0, 1.0, cell_latitude=10.0, radius_km_50=112.0, radius_km_90=112.0, country="DE"),  # 1 degree
            answer("c", 0.0, 179.5, radius_km_50=50.0, radius_km_90=100.0),  # 1 degree over the antimeridian
            problem("d"),
            answer("without truth", 0.0, 0.0),
        ]
    )
    truth = make_truth(
        "image_id,latitude,longitude,country\na,48,2,FR\nb,0,0,fr\nc,0,-179.5,France\nd,1,1,FR\nunseen,1,1,FR\n"
    )
    metrics = evaluate(*load(str(run), str(truth)))
    assert set(metrics) == KEYS
    assert (metrics["num_images"], metrics["num_problems"]) == (4, 1)
    assert metrics["median_error_km"] == pytest.approx(KM_A_DEGREE, abs=1e-3)
    assert metrics["mean_error_km"] == pytest.approx(2 / 3 * KM_A_DEGREE, abs=1e-3)
    near = dict.fromkeys(("1", "5", "10", "25", "50", "100"), 0.25)
    assert metrics["accuracy_at_km"] == near | dict.fromkeys(("200", "750", "1000", "2500"), 0.75)
    # 5000 exp(-111.195 / 1492.7) = 4641.1
    assert metrics["geoguessr_score"] == pytest.approx((5000 + 4641 + 4641) / 4)
    assert metrics["country_accuracy"] == 0.5  # a and c
    assert metrics["radius_coverage"] == {"50": pytest.approx(2 / 3), "90": pytest.approx(2 / 3)}
    assert metrics["cell_centre"]["median_error_km"] == pytest.approx(KM_A_DEGREE, abs=1e-3)
    assert metrics["cell_centre"]["accuracy_at_km"]["200"] == 0.5  # b's cell is 10 degrees off
    assert metrics["images_per_second"] == 123.0
    json.dumps(metrics, allow_nan=False)


def test_country_of_the_nearest_place_where_the_table_has_none(make_run, make_truth):
    rows = [answer("a", 48.9, 2.3, country="FR"), answer("b", 48.9, 2.3, country="FR")]
    predictions, truth = load(str(make_run(rows)), str(make_truth("id,lat,lon\na,48.85,2.35\nb,52.5,13.4\n")))
    assert evaluate(predictions, truth)["country_accuracy"] == 0.5
    assert compare(predictions, truth).num_places_as_country == 2


def test_country_names_and_codes():
    given = np.array(["FR", "de", " Germany ", "united states", "Atlantis", ""], dtype=object)
    assert country_codes(given).tolist() == ["FR", "DE", "DE", "US", "", ""]


def test_all_problems(make_run, make_truth):
    run = make_run([problem("a"), problem("b")])
    predictions, truth = load(str(run), str(make_truth("id,lat,lon\na,1,2\nb,3,4\n")))
    metrics = evaluate(predictions, truth)
    assert metrics["num_problems"] == metrics["num_images"] == 2
    assert metrics["median_error_km"] is None
    assert set(metrics["accuracy_at_km"].values()) == {0.0}
    assert metrics["geoguessr_score"] == 0.0
    assert metrics["country_accuracy"] == 0.0  # an empty country is never right
    assert metrics["radius_coverage"] == {"50": None, "90": None}
    assert "2 without an answer" in format_table(metrics)


def test_a_problem_makes_an_answer_void(make_run, make_truth):
    run = make_run([answer("a", 1.0, 2.0, problem="no_answer"), answer("b", 1.0, 2.0)])
    metrics = evaluate(*load(str(run), str(make_truth("id,lat,lon\na,1,2\nb,1,2\n"))))
    assert metrics["num_problems"] == 1
    assert metrics["accuracy_at_km"]["25"] == metrics["cell_centre"]["accuracy_at_km"]["25"] == 0.5


def test_empty_predictions_are_refused(make_run, make_truth):
    with pytest.raises(InputError, match="no image id"):
        evaluate(*load(str(make_run([])), str(make_truth("id,lat,lon\na,1,2\n"))))


def test_what_the_columns_cannot_tell_is_none(make_truth):
    mine = make_truth("id,lat,lon\na,1,2\n", "mine.csv")
    metrics = evaluate(*load(str(mine), str(make_truth("id,lat,lon\na,1,2\n"))))
    assert metrics["country_accuracy"] is None
    assert metrics["cell_centre"] is None
    assert metrics["radius_coverage"] == {"50": None, "90": None}
    assert "images_per_second" not in metrics
    assert "within 25 km" in format_table(metrics)


def test_order_of_rows_does_not_matter(make_run, tmp_path, make_truth):
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-90, 90, 50), rng.uniform(-180, 180, 50)])
    truth = "id,lat,lon\n" + "".join(f"i{n},{lat},{lon}\n" for n, (lat, lon) in enumerate(points))
    rows = [answer(f"i{n}", float(lat) * 0.9, float(lon) * 0.9) for n, (lat, lon) in enumerate(points)]
    first = evaluate(*load(str(make_run(rows, num_files=3)), str(make_truth(truth))))
    (tmp_path / "run").rename(tmp_path / "other")
    lines = truth.splitlines(keepends=True)
    second = evaluate(*load(str(make_run(rows[::-1])), str(make_truth(lines[0] + "".join(lines[:0:-1])))))
    assert second.pop("mean_error_km") == pytest.approx(first.pop("mean_error_km"))  # sums differ in the last digit
    for metrics in (first, second):
        metrics["cell_centre"].pop("mean_error_km")
        metrics.pop("intervals_95")
        metrics["by_place"] = None  # sums by place differ in the last digit too
    assert first == second


def test_table_shows_both_columns_and_what_matched(make_run, make_truth):
    predictions, truth = load(
        str(make_run([answer("a", 1.0, 2.0), problem("b")])), str(make_truth("id,lat,lon\na,1,2\nb,1,2\n"))
    )
    text = format_table(evaluate(predictions, truth), compare(predictions, truth))
    assert "cell centre" in text
    assert "50.00 %" in text
    assert "2 images matched by image id" in text
    assert "123 images/s" in text


def test_a_city_of_many_photos_is_one_place(make_run, make_truth):
    """Ninety of a hundred photos are of one block and right: by photo nine in ten are, by place one in eleven."""
    city = [(f"c{n}", 48.86, 2.3 + n / 1000) for n in range(90)]
    others = [(f"o{n}", float(n), 40.0) for n in range(10)]
    truth = "id,lat,lon\n" + "".join(f"{name},{lat},{lon}\n" for name, lat, lon in [*city, *others])
    rows = [answer(name, lat, lon) for name, lat, lon in city] + [answer(name, lat, 60.0) for name, lat, _ in others]
    metrics = evaluate(*load(str(make_run(rows)), str(make_truth(truth))))
    place = metrics["by_place"]
    assert metrics["accuracy_at_km"]["25"] == 0.9
    assert place["accuracy_at_km"]["25"] == pytest.approx(1 / 11)
    assert (place["num_places"], place["grouped_by"]) == (11, "blocks of 0.25 degrees")
    assert place["effective_num_images"] == round(100**2 / (90**2 + 10), 1)
    assert metrics["median_error_km"] == 0.0
    assert place["median_error_km"] > 2000.0
    low, high = metrics["intervals_95"]["accuracy_at_km"]["25"]
    assert low <= 0.1  # without the city
    assert high > 0.9
    json.dumps(metrics, allow_nan=False)


def test_answers_inside_the_areas_of_the_truth(make_run, make_truth):
    """In Paris, elsewhere in its region, elsewhere in France, at sea, and without an answer."""
    rows = [answer("a", 48.8566, 2.3522), answer("b", 48.42, 2.70), answer("c", 45.76, 4.84),
            answer("d", 46.0, -6.0), problem("e")]  # fmt: skip
    loaded = load(
        str(make_run(rows)), str(make_truth("id,lat,lon\n" + "".join(f"{n},48.8584,2.2945\n" for n in "abcde")))
    )
    assert "inside" not in evaluate(*loaded)
    metrics = evaluate(*loaded, compare(*loaded, with_areas=True))
    assert metrics["inside"]["country"] == pytest.approx(3 / 5)
    assert metrics["inside"]["region"] == pytest.approx(2 / 5)
    assert metrics["inside"]["city"] == pytest.approx(1 / 5)
    assert "inside region" in format_table(metrics)


def test_places_by_a_column(make_run, make_truth):
    rows = [answer(f"i{n}", 1.0, 2.0) for n in range(20)]
    truth = "id,lat,lon,User\n" + "".join(f"i{n},1,{2 if n < 18 else 9},{'u' if n < 18 else n}\n" for n in range(20))
    loaded = load(str(make_run(rows)), str(make_truth(truth)), "user")
    place = evaluate(*loaded)["by_place"]
    assert (place["num_places"], place["grouped_by"]) == (3, "column 'user'")
    assert place["accuracy_at_km"]["1"] == pytest.approx(1 / 3)
    assert place["intervals_95"]["accuracy_at_km"]["1"] is None  # of three places none can be told
    assert "3 places are too few" in format_table(evaluate(*loaded))


def test_places_by_a_column_that_is_not_there(make_run, make_truth):
    truth, run = make_truth("id,lat,lon\na,1,2\n"), make_run([answer("a", 1.0, 2.0)])
    with pytest.raises(InputError, match="no column 'user'"):
        load(str(run), str(truth), "user")
    by_latitude = load(str(run), str(truth), "lat")[1]
    assert by_latitude.groups.tolist() == ["1"]
