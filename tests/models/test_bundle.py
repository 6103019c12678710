"""Bundles: sealed, opened, and refused by the name of the file that is wrong."""

import dataclasses
import json

import fsspec
import pytest

from geo_ray.errors import BundleError
from geo_ray.geo.calibration import Calibration, Likeness, ProbabilityCalibration, RadiusCalibration
from geo_ray.index.refine import Refinement
from geo_ray.models import bundle as module
from geo_ray.models.bundle import MANIFEST, open_bundle, shipped_bundles, write_manifest
from geo_ray.models.encoder_spec import EncoderSpec

ENCODER = EncoderSpec(architecture="residual-tiny", image_size=32, num_features=16)
STEPS = Calibration(
    radius=RadiusCalibration(edges=(1.0,), radius_km_50=(1.0, 2.0), radius_km_90=(3.0, 4.0)),
    probability=ProbabilityCalibration(),
    likeness=Likeness(level=0.05, distances=(), p_values=(1.0,)),
    num_images=3,
    num_places=2,
)
WORDS = {"kind": "cells", "description": "a test", "licence": "Apache-2.0", "attribution": "nobody"}


@pytest.fixture(autouse=True)
def _fresh():
    """Bundles are opened once a process; tests change them."""
    module._checked.cache_clear()
    yield
    module._checked.cache_clear()


def seal(folder, refinement=None, **words):
    refinement = refinement or Refinement()
    write_manifest(folder, **(WORDS | words), encoder=ENCODER, parameters=refinement, provenance={"by": "a test"})


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "bundle"
    (path / "index").mkdir(parents=True)
    (path / "weights.safetensors").write_bytes(b"weights")
    (path / "index" / "codes.npy").write_bytes(b"codes")
    (path / "calibration.json").write_text(json.dumps(dataclasses.asdict(STEPS)))
    seal(path)
    return path


def edit(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def test_sealed_and_opened(folder):
    opened = open_bundle(str(folder))
    assert opened.encoder == ENCODER
    assert opened.refinement == Refinement()
    assert (opened.kind, opened.image_size, opened.num_features) == ("cells", 32, 16)
    assert sorted(opened.files) == ["calibration.json", "index/codes.npy", "weights.safetensors"]
    assert opened.path("index/codes.npy").read_bytes() == b"codes"
    assert opened.calibration() == STEPS


def test_a_calibration_of_an_earlier_version_is_refused(folder):
    (folder / "calibration.json").write_text('{"edges": [1.0], "radius_km_50": [1.0, 2.0], "radius_km_90": [3.0, 4.0]}')
    seal(folder)
    module._checked.cache_clear()
    with pytest.raises(BundleError, match=r"another version.*geo-ray bundle calibrate"):
        open_bundle(str(folder)).calibration()


def test_fingerprints_follow_what_changes_answers(folder):
    first = open_bundle(str(folder))
    seal(folder, description="other words")
    module._checked.cache_clear()
    assert open_bundle(str(folder)).fingerprint == first.fingerprint
    seal(folder, Refinement(temperature=0.5))
    module._checked.cache_clear()
    tuned = open_bundle(str(folder))
    assert tuned.fingerprint != first.fingerprint
    assert tuned.encoder_fingerprint == first.encoder_fingerprint
    (folder / "weights.safetensors").write_bytes(b"other weights")
    seal(folder)
    module._checked.cache_clear()
    assert open_bundle(str(folder)).encoder_fingerprint != first.encoder_fingerprint


@pytest.mark.parametrize("name", ["weights.safetensors", "index/codes.npy", "calibration.json"])
def test_a_damaged_or_missing_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"?")
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        open_bundle(str(folder))
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        open_bundle(str(folder))
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        open_bundle(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"refinement": {"temperature": 9.0}},
        {"kind": "gallery", "gallery": {"logit_scale": 9.0}},
        {"files": {}},
        {"encoder_fingerprint": "0"},
    ],
)
def test_a_changed_manifest_is_refused(folder, change):
    edit(folder, **change)
    with pytest.raises(BundleError, match=r"bundle\.json was changed"):
        open_bundle(str(folder))


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", '{"format": 1}', "\x00\x01"])
def test_a_damaged_manifest_is_named(folder, content):
    (folder / MANIFEST).write_text(content)
    with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
        open_bundle(str(folder))


def test_another_format_is_refused(folder):
    edit(folder, format=99)
    with pytest.raises(BundleError, match="format 99 is not 1"):
        open_bundle(str(folder))


def test_what_is_no_bundle_lists_those_that_ship(tmp_path):
    with pytest.raises(BundleError, match=r"'nowhere'.*these ship with geo-ray: .*earth-tiny"):
        open_bundle("nowhere")
    with pytest.raises(BundleError, match="not a folder"):
        open_bundle(str(tmp_path))


def test_the_shipped_bundles_are_whole_and_small():
    for name, folder in shipped_bundles().items():
        assert open_bundle(name).folder == folder
        assert sum(path.stat().st_size for path in folder.rglob("*")) < 20 * 2**20


def test_settings_that_cannot_work_are_refused(folder):
    with pytest.raises(ValueError, match="micro_batch=0"):
        EncoderSpec(architecture="residual-tiny", image_size=32, num_features=16, micro_batch=0)
    with pytest.raises(ValueError, match="kind='street' must be one of"):
        seal(folder, kind="street")


@pytest.fixture
def remote(folder, tmp_path, monkeypatch):
    """The bundle in fsspec's memory, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/bundle", recursive=True)
    yield memory
    memory.rm("/bucket", recursive=True)


def test_a_remote_bundle_is_fetched_once(folder, remote, tmp_path):
    opened = open_bundle("memory://bucket/bundle")
    assert opened.fingerprint == open_bundle(str(folder)).fingerprint
    assert opened.folder.parent == tmp_path / "cache" / "geo-ray"
    remote.rm("/bucket/bundle/weights.safetensors")
    module._checked.cache_clear()
    assert open_bundle("memory://bucket/bundle/").folder == opened.folder


def test_an_unreachable_bundle_is_named(remote):
    for ref in ("memory://bucket/nothing", "nothere://bucket/bundle"):
        with pytest.raises(BundleError, match=f"{ref} can't be fetched"):
            open_bundle(ref)
