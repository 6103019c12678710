"""Published weights on S3, as moto's server has it, to a bundle that is put there too."""

from pathlib import Path

import pytest

from geo_ray.models.bundle import open_bundle
from geo_ray.models.published import Import, LabelChoice, import_bundle
from tests.data.s3_server import s3_server
from tests.models.checkpoint_files import write_hugging_face


@pytest.fixture
def s3(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3_server("models") as client:
        yield client


def put(client, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(Bucket="models", Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())


def test_from_a_prefix_as_from_a_folder(s3, tmp_path):
    folder = write_hugging_face(tmp_path / "hf")
    put(s3, folder, "StreetCLIP")
    for name, source in (("local", str(folder)), ("remote", "s3://models/StreetCLIP")):
        what = Import(kind="streetclip", source=source, labels=LabelChoice(num_cities=1))
        import_bundle(what, tmp_path / name, say=lambda text: None)
    local, remote = (open_bundle(str(tmp_path / name)) for name in ("local", "remote"))
    assert remote.fingerprint == local.fingerprint
    assert remote.provenance["source"] == "s3://models/StreetCLIP"
    put(s3, tmp_path / "remote", "bundles/streetclip")
    assert open_bundle("s3://models/bundles/streetclip").fingerprint == local.fingerprint
