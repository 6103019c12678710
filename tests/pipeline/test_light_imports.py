"""Only who encodes needs torch, which takes 2 s of a core to import: not a driver, a reader, or who finds places."""

import subprocess
import sys

import pytest

WITHOUT = "; import sys; assert 'torch' not in sys.modules"
GRAPH = (
    "from geo_ray.models.bundle import open_bundle; from geo_ray.pipeline.graph import graph_of; "
    "from geo_ray.pipeline.stage import Runtime; decode, encode, locate = graph_of(open_bundle('earth-tiny')).parts(); "
)


@pytest.mark.parametrize(
    "does",
    [
        "import geo_ray.data.run.job, geo_ray.data.run.worker, geo_ray.cli.geotag",
        f"{GRAPH} decode.build(Runtime())",
        f"{GRAPH} locate.build(Runtime())",
    ],
)
def test_no_torch(does):
    subprocess.run([sys.executable, "-c", does + WITHOUT], check=True)


def test_who_encodes_has_it():
    with_torch = f"{GRAPH} encode.build(Runtime()); import sys; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", with_torch], check=True)
