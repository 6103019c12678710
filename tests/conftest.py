"""Shared fixtures: one local Ray for the session, and settings that must stand before Ray is imported."""

import os

os.environ["RAY_AUTH_MODE"] = "disabled"  # a local ray.init() turns token authentication on since 2.60
os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# As geo_ray.remote.runtime has it: Ray ends processes that have been idle for a second, and new ones take one to start.
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")

import pytest
from hypothesis import settings

from tests.source_tree import make_python

settings.register_profile("without deadlines", deadline=None)  # a machine that does other things is no fault of ours
settings.load_profile("without deadlines")

STARTING = {"ray_session", "source_tree_python"}
MORE_STARTING = (
    "test_bulk_s3",
    "test_exactly_once",
    "test_node_loss",
    "test_lease",
    "test_contracts",
    "test_cells_cli",
    "test_gpu",
)


def pytest_collection_modifyitems(items):
    """Files that start processes come first: a core that is left with one of them at the end keeps the other idle."""
    starting = {item.path for item in items if STARTING & set(item.fixturenames) or item.path.stem in MORE_STARTING}
    items.sort(key=lambda item: item.path not in starting)


@pytest.fixture(scope="session")
def ray_session():
    """A local Ray with room for reads beside two encoder actors; ended by the session that made it."""
    import ray

    ray.init(
        address="local", num_cpus=4, include_dashboard=False, logging_level="warning", object_store_memory=300 * 2**20
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def source_tree_python(tmp_path_factory):
    """A Python with the project's dependencies in which the project itself isn't installed."""
    return make_python(tmp_path_factory.mktemp("python"))
