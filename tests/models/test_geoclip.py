"""GeoCLIP's encoders against the package's own module and its formulas, and the reading of its files."""

import importlib
import itertools
import math
import pickle
import sys
import types
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from geo_ray.datasets.earth import locations
from geo_ray.errors import InputError, MissingDataError
from geo_ray.geo.sphere import great_circle_km
from geo_ray.models import geoclip
from geo_ray.models.geoclip import ImageAdapter, LocationEncoder, embed_locations, equal_earth, read_geoclip

FILES = (geoclip.LOCATION_ENCODER, geoclip.ADAPTER, geoclip.LOGIT_SCALE, geoclip.GALLERY)
WEIGHTS = FILES[:3]
spec = find_spec("geoclip")
PACKAGE = Path(spec.submodule_search_locations[0]) if spec else Path("absent")
installed = pytest.mark.skipif(spec is None, reason="geoclip is not installed")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights():
    return read_geoclip()


@pytest.fixture(scope="module")
def encoder(weights):
    encoder = LocationEncoder()
    encoder.load_state_dict(weights.location_encoder)
    return encoder.eval()


@pytest.fixture
def theirs(monkeypatch):
    """The package's location encoder; its own __init__ would import transformers."""
    pytest.importorskip("pandas")
    parent = types.ModuleType("geoclip_model")
    parent.__path__ = [str(PACKAGE / "model")]
    monkeypatch.setitem(sys.modules, "geoclip_model", parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is deprecated
        module = importlib.import_module("geoclip_model.location_encoder")
    yield module.LocationEncoder().eval()
    for name in [name for name in sys.modules if name.startswith("geoclip_model.")]:
        del sys.modules[name]


def points(n, seed=0):
    """Points all over the sphere, and its edges."""
    rng = np.random.default_rng(seed)
    edges = [(90, 0), (-90, 0), (90, 180), (-90, -180), (0, 0), (0, 180), (0, -180), (66.5, 180), (-16.8, -180)]
    inside = np.stack([np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)], axis=1)
    inside[: len(edges)] = edges
    return inside


@installed
def test_features_are_the_packages(encoder, theirs):
    latlon = points(5000)
    x = torch.from_numpy(latlon).float()
    with torch.inference_mode():
        expected = theirs(x)
        torch.testing.assert_close(encoder(x), expected, rtol=0, atol=1e-5)
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    features = embed_locations(encoder, latlon, batch=512)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)


@installed
def test_cosines_fall_with_distance(encoder, weights):
    rows = np.random.default_rng(0).choice(len(weights.gallery_latlon), 2000, replace=False)
    latlon = weights.gallery_latlon[rows]
    features = embed_locations(encoder, latlon)
    a, b = np.triu_indices(len(rows), 1)
    distance, cosine = great_circle_km(latlon[a], latlon[b]), (features @ features.T)[a, b]
    edges = (0, 5, 25, 100, 500, 2000, 7000, 20100)
    bands = [(distance >= low) & (distance < high) for low, high in itertools.pairwise(edges)]
    assert all(band.sum() > 1000 for band in bands)
    means = [cosine[band].mean() for band in bands]
    assert 0.77 < means[0] < 0.83  # 0.80
    assert 0.035 < means[-1] < 0.055  # 0.044
    assert (np.diff(means) < -0.005).all()


@installed
def test_what_the_package_holds(weights):
    assert math.isclose(weights.logit_scale, 39.687, abs_tol=1e-3)
    assert weights.gallery_latlon.shape == (100_000, 2)
    np.testing.assert_array_equal(np.unique(weights.gallery_latlon, axis=0), locations())
    adapter = ImageAdapter()
    adapter.load_state_dict(weights.adapter)
    x = torch.randn((3, 768), generator=torch.Generator().manual_seed(0))
    w = {name: tensor.numpy() for name, tensor in weights.adapter.items()}
    hidden = np.maximum(x.numpy() @ w["0.weight"].T + w["0.bias"], 0)
    with torch.inference_mode():
        np.testing.assert_allclose(adapter(x), hidden @ w["2.weight"].T + w["2.bias"], atol=1e-5)


@installed
def test_reading_leaves_the_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    read_geoclip()
    assert torch.equal(torch.rand(3), expected)


def test_the_plane_has_equal_areas():
    """The Jacobian of the projection over the sphere's cos(latitude) is the same everywhere."""
    latlon = torch.from_numpy(points(300)[9:]).requires_grad_()
    xy = equal_earth(latlon)
    rows = [torch.autograd.grad(xy[:, axis].sum(), latlon, retain_graph=True)[0] for axis in (0, 1)]
    jacobian = torch.stack(rows, dim=1).det().abs() / torch.deg2rad(latlon[:, 0]).cos()
    expected = (math.radians(1) * 66.50336 / 180) ** 2
    np.testing.assert_allclose(jacobian.detach(), expected, rtol=1e-5)


def test_the_planes_edges():
    xy = equal_earth(torch.tensor([[0.0, 0.0], [0.0, 180.0], [0.0, -180.0], [90.0, 0.0], [-90.0, 0.0]]))
    expected = [[0, 0], [1, 0], [-1, 0], [0, 0.48672], [0, -0.48672]]
    np.testing.assert_allclose(xy, expected, atol=2e-5)


def test_a_place_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    encoder, latlon = LocationEncoder().eval(), points(70)
    whole = embed_locations(encoder, latlon, batch=32)
    for rows in ([0], [69, 3], range(31), range(32, 70)):
        np.testing.assert_array_equal(embed_locations(encoder, latlon[list(rows)], batch=32), whole[list(rows)])
    assert embed_locations(encoder, latlon[:0]).shape == (0, 512)


@pytest.mark.parametrize("bad", [(10.0, 181.0), (91.0, 0.0), (np.nan, 0.0)])
def test_places_that_are_not_on_earth_are_refused(bad):
    with pytest.raises(ValueError, match="1 of 2 points"):
        embed_locations(LocationEncoder(), np.array([(0.0, 0.0), bad]))


def test_fresh_frequencies_have_their_scales():
    torch.manual_seed(0)
    encoder = LocationEncoder()
    deviations = [encoder[f"LocEnc{row}"].capsule[0].b.std().item() for row in range(3)]
    np.testing.assert_allclose(deviations, [1, 16, 256], rtol=0.1)


def test_a_package_that_is_absent_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(geoclip, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"geoclip.*pip install --no-deps geoclip==1\.3\.0"):
        read_geoclip()
    with pytest.raises(MissingDataError, match=r"location_encoder_weights\.pth is not there.*pip install --no-deps"):
        read_geoclip(tmp_path)


@pytest.fixture
def copy(tmp_path):
    """A folder as the package's, its files links."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(PACKAGE / name)
    return tmp_path


def replace(path):
    """The bytes of the file that a link stands for, the link removed."""
    content = path.read_bytes()
    path.unlink()
    return content


class Trap:
    """Creates a file when it is unpickled by a reader that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@installed
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "foreign"])
def test_a_damaged_file_is_named(copy, name, damage):
    path = copy / name
    content = replace(path)
    middle = len(content) // 2
    changed = {
        "empty": b"",
        "truncated": content[: middle // 2],
        "flipped": content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :],
        "foreign": b"LAT,LON\n1,2\n" if name != geoclip.GALLERY else b"id,latitude,longitude\n1,2,3\n",
    }
    if damage != "missing":
        path.write_bytes(changed[damage])
    with pytest.raises(MissingDataError if damage == "missing" else InputError, match=path.name) as caught:
        read_geoclip(copy)
    assert "pip install --no-deps geoclip==1.3.0" in str(caught.value)


@installed
@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_pickled_code_is_refused_and_not_run(copy, tmp_path, name, container):
    path, sprung = copy / name, tmp_path / "sprung"
    path.unlink()
    if container == "torch":
        torch.save({"0.weight": Trap(sprung)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(InputError, match=f"{path.name} is not GeoCLIP's: it is damaged or holds more than tensors"):
        read_geoclip(copy)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works


@installed
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("2.bias"), r"entries \['2.bias'\]"),
        (lambda state: state.update(extra=torch.zeros(1)), r"entries \['extra'\]"),
        (lambda state: state.update({7: torch.zeros(1)}), r"entries \['7'\]"),
        (lambda state: state.update({"0.weight": torch.zeros(768, 767)}), "0.weight is not a float32 tensor of shape"),
        (lambda state: state.update({"0.bias": state["0.bias"].double()}), "0.bias is not a float32 tensor of shape"),
        (lambda state: state.update({"0.bias": [1, 2]}), "0.bias is not a float32 tensor of shape"),
        (lambda state: state["2.weight"].view(-1)[5].fill_(math.nan), "2.weight has values that are not finite"),
    ],
)
def test_other_tensors_are_refused(copy, change, reason):
    path = copy / geoclip.ADAPTER
    state = torch.load(path, weights_only=True)
    path.unlink()
    change(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=rf"{path.name} is not GeoCLIP's: .*{reason}"):
        read_geoclip(copy)


@installed
@pytest.mark.parametrize("content", [torch.zeros(1), {"scale": torch.zeros(())}, 3.68, torch.tensor(math.inf)])
def test_another_logit_scale_is_refused(copy, content):
    path = copy / geoclip.LOGIT_SCALE
    path.unlink()
    torch.save(content, path)
    with pytest.raises(InputError, match=r"logit_scale_weights\.pth is not GeoCLIP's"):
        read_geoclip(copy)


@installed
@pytest.mark.parametrize("change", ["swapped", "header", "short", "word", "wide"])
def test_another_table_of_places_is_refused(copy, change):
    path = copy / geoclip.GALLERY
    header, *lines = replace(path).decode().splitlines()
    if change == "swapped":
        lines = [",".join(reversed(line.split(","))) for line in lines]
    lines = lines[:-1] if change == "short" else lines
    lines[5] = "north,west" if change == "word" else lines[5]
    lines = [f"{line},0" for line in lines] if change == "wide" else lines
    path.write_text("\n".join(["LON,LAT" if change == "header" else header, *lines]) + "\n")
    with pytest.raises(
        InputError, match=r"coordinates_100K\.csv is not GeoCLIP's: it is not a table LAT,LON of 100000"
    ):
        read_geoclip(copy)
