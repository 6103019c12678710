"""SSA and SA by hand, by place, and from a run's files."""

import numpy as np
import pytest

from geo_ray.cli import main
from geo_ray.errors import InputError
from geo_ray.evaluation.addresses import AddressAnswers, address_metrics, address_table
from geo_ray.evaluation.bootstrap import groups_by_column
from tests.models.address_bundles import grid_addresses


def answers_of(candidates, true, places=None):
    addresses = grid_addresses()
    places = [str(row) for row in true] if places is None else places
    return addresses, AddressAnswers.of(
        addresses, np.array(candidates), addresses.latlon[np.abs(true)], addresses.texts[true],
        groups_by_column(np.array(places, dtype=object), "place"),
    )  # fmt: skip


def same_street(addresses):
    """Two sub-streets of a street in one neighbourhood, and one of another street."""
    keys = [*zip(addresses.streets, addresses.neighbourhoods, strict=True)]
    first = next(row for row, key in enumerate(keys) if keys.count(key) > 1)
    second = next(row for row in range(first + 1, len(keys)) if keys[row] == keys[first])
    other = next(row for row, key in enumerate(keys) if key[0] != keys[first][0])
    return first, second, other


def test_by_hand():
    addresses = grid_addresses()
    a, b, c = same_street(addresses)
    _, found = answers_of([[a, b], [b, a], [c, b], [c, c], [-1, -1]], [a] * 5)
    metrics = address_metrics(found)
    assert (metrics["ssa_1"], metrics["ssa_5"], metrics["sa_1"], metrics["sa_5"]) == (0.2, 0.4, 0.4, 0.6)
    assert found.to_middle_m[0] == 0
    assert np.isnan(found.to_street_m[4])
    assert found.to_street_m[0] == pytest.approx(0, abs=0.1)
    assert found.to_street_m[2] > 10
    assert "SSA-1" in address_table(metrics)


def test_each_place_has_one_vote():
    addresses = grid_addresses()
    a, _, c = same_street(addresses)
    _, found = answers_of([[a], [a], [a], [c]], [a, a, a, a], ["x", "x", "x", "y"])
    metrics = address_metrics(found)
    assert (metrics["ssa_1"], metrics["by_place"]["ssa_1"]) == (0.75, 0.5)
    assert metrics["by_place"]["num_places"] == 2


def test_intervals_are_of_draws_of_places():
    addresses = grid_addresses()
    rows = list(range(40))
    wrong = [(row + 1) % len(addresses) for row in rows]
    _, found = answers_of([[row if row % 2 else other] for row, other in zip(rows, wrong, strict=True)], rows)
    low, high = address_metrics(found)["by_place"]["intervals_95"]["ssa_1"]
    assert 0.3 < low < 0.5 < high < 0.7


def test_a_true_address_that_is_no_candidate_is_named():
    addresses = grid_addresses()
    with pytest.raises(InputError, match="1 true addresses are none of the 49 candidates, such as 'nowhere'"):
        AddressAnswers.of(addresses, np.array([[0]]), addresses.latlon[:1], np.array(["nowhere"], dtype=object),
                          groups_by_column(np.array(["x"], dtype=object), "place"))  # fmt: skip


def test_predictions_without_addresses_are_refused(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("image_id,latitude,longitude\na,1,2\n")
    truth = str(tmp_path / "p.csv")
    assert main(["evaluate", truth, "--truth", truth, "--addresses", "earth-tiny"]) == 2
    assert "geo-ray evaluate: " in capsys.readouterr().err
