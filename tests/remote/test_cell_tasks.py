"""Cells by Ray tasks are those of one process."""

import numpy as np
import pytest
import shapely

from geo_ray.cells.semantic import build_semantic
from geo_ray.errors import BuildError
from geo_ray.remote import build_tasks, cell_tasks
from geo_ray.remote.cell_tasks import build_cells
from tests.cells.worlds import SMALL, areas, cluster

WORLD = areas(
    *((shapely.box(i, j, i + 1, j + 1), f"{'ABC'[i // 2]}A", f"{j}") for i in range(6) for j in range(3)),
)


def places():
    return np.concatenate([cluster(30 + 7 * n, 0.5 + n % 3, 0.2 + n % 6, 15, seed=n) for n in range(12)])


def test_the_same_cells_as_in_one_process(ray_session):
    latlon = places()
    seen = []
    partition = build_cells(WORLD, latlon, SMALL, lambda task: seen.append((task.step, task.done, task.total)))
    local = build_semantic(WORLD, latlon, SMALL)
    assert len(local) > 5
    assert shapely.to_wkb(partition.polygons).tolist() == shapely.to_wkb(local.polygons).tolist()
    for name in ("cell_ids", "counts", "countries", "admin_1", "reasons", "centers"):
        np.testing.assert_array_equal(getattr(partition, name), getattr(local, name))
    assert [s for s in seen if s[0] == "countries"] == [("countries", n, 3) for n in (1, 2, 3)]
    assert seen[-1][0] == "large cells"
    assert seen[-1][1] == seen[-1][2]


@pytest.mark.parametrize("window", [0.1, 100])
def test_how_many_run_at_once_changes_nothing(ray_session, monkeypatch, window):
    monkeypatch.setattr(build_tasks, "TASKS_A_CPU", window)
    latlon = places()
    partition, local = build_cells(WORLD, latlon, SMALL), build_semantic(WORLD, latlon, SMALL)
    assert shapely.to_wkb(partition.polygons).tolist() == shapely.to_wkb(local.polygons).tolist()


def test_a_failed_task_fails_the_build_by_name(ray_session, monkeypatch):
    def fail(country, semantic):
        if country.code == "BA":
            raise ArithmeticError("no such number")
        return []

    monkeypatch.setattr(cell_tasks, "fuse_country", fail)
    with pytest.raises(BuildError, match=r"country BA failed: .*no such number"):
        build_cells(WORLD, places(), SMALL)


def test_bad_points_are_refused_before_any_task():
    with pytest.raises(ValueError, match="no training points"):
        build_cells(WORLD, np.zeros((0, 2)), SMALL)
