import json

import numpy as np
import pytest
from prediction_rows import answer, problem, write_run

from geo_ray.cli import main
from geo_ray.errors import InputError
from geo_ray.evaluation.bootstrap import Groups
from geo_ray.evaluation.duel import Rules, matches, play, winner
from geo_ray.geo.metrics import geoguessr_points

NAN = float("nan")


def test_published_points_at_known_distances():
    # PIGEON: 5,000 points at 0 km; 5000 / e = 1,839 at the scale of 1,492.7 km
    assert geoguessr_points(np.array([0.0, 1492.7, 2 * 1492.7, NAN])).tolist() == [5000, 1839, 677, 0]


def test_a_match_by_hand():
    """Leads of 3,161 points: 6,000 are gone after the second round; and with a doubled second round in it."""
    errors = np.array([[0.0, 1492.7]] * 3)
    rounds = play(errors, np.arange(3), Rules())
    assert [one.points for one in rounds] == [(5000, 1839)] * 2
    assert [one.health for one in rounds] == [(6000, 2839), (6000, 0)]
    assert winner(rounds) == 0
    slow = play(errors, np.arange(3), Rules(health=12_000, plain_rounds=1, step=1.0))
    assert [one.multiplier for one in slow] == [1.0, 2.0, 3.0]
    assert [one.health[1] for one in slow] == [12_000 - 3161, 12_000 - 3 * 3161, 0]


def test_multipliers_grow_after_the_plain_rounds():
    assert [Rules().multiplier(number) for number in range(1, 8)] == [1, 1, 1, 1, 1.5, 2, 2.5]


def test_no_guess_loses_the_round_and_equal_guesses_cost_nobody():
    rounds = play(np.array([[NAN, 100.0], [50.0, 50.0]]), np.arange(2), Rules())
    assert rounds[0].points[0] == 0
    assert rounds[0].health == (6000 - rounds[0].points[1], 6000)
    assert rounds[1].health == rounds[0].health
    assert winner(rounds) == 1
    assert winner(play(np.array([[1.0, 1.0]]), np.arange(1), Rules())) is None


def test_matches_are_drawn_by_the_seed_without_repeats():
    errors = np.random.default_rng(0).exponential(1000, (50, 2))
    groups = Groups(numbers=np.repeat(np.arange(10), 5), described="test")
    first, again = (list(matches(errors, groups, 5, 10, Rules(), seed=3)) for _ in range(2))
    assert first == again
    for rounds in first:
        places = [one.image // 5 for one in rounds]
        assert len(set(places)) == len(places)


def test_a_city_of_many_photos_is_one_place_of_a_match():
    """One side knows a place of 900 photos, the other all of nine others."""
    numbers = np.concatenate([np.zeros(900, np.int64), np.arange(1, 10)])
    errors = np.where((numbers == 0)[:, None], [[0.0, 5000.0]], [[5000.0, 0.0]])
    played = list(matches(errors, Groups(numbers=numbers, described="test"), 50, 10, Rules()))
    assert [winner(rounds) for rounds in played].count(1) >= 45


def test_rules_that_make_no_game():
    with pytest.raises(InputError, match="health"):
        Rules(health=0)


def test_the_command(tmp_path, capsys):
    truth = tmp_path / "truth.csv"
    truth.write_text("id,lat,lon\n" + "".join(f"i{n},0,{n}\n" for n in range(20)))
    write_run(tmp_path / "good", [answer(f"i{n}", 0.0, float(n)) for n in range(20)])
    people = tmp_path / "people.csv"
    people.write_text("image_id,latitude,longitude\n" + "".join(f"i{n},20,{n}\n" for n in range(19)))
    arguments = ["duel", str(tmp_path / "good"), str(people), "--truth", str(truth), "--matches", "10"]
    assert main([*arguments, "--json", str(tmp_path / "duel.json")]) == 0
    text = capsys.readouterr().out
    assert "first won 10, second 0, 0 drawn" in text
    assert "19 images of 19 places" in text
    assert "5,000 / 1,127" in text  # 5000 exp(-2224 / 1492.7)
    saved = json.loads((tmp_path / "duel.json").read_text())
    assert saved["wins"] == [10, 0]
    assert saved["points"][0]["mean"] == 5000
    write_run(tmp_path / "none", [problem(f"i{n}") for n in range(20)])
    assert main(["duel", str(tmp_path / "none"), str(people), "--truth", str(truth)]) == 0
    assert "second 1,000" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--health", "0"])
