"""What a user sees: readable answers, help, and one-line errors that say what to do."""

import json
import shutil

import pytest
from PIL import Image

from geo_ray.cli import main
from geo_ray.models.bundle import shipped_bundles
from tests.crops import write_crops


@pytest.fixture
def photo(tmp_path):
    return write_crops(tmp_path / "photos", 1)[0]


def error_of(capsys, *arguments):
    """The one line that a failing command prints."""
    assert main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_a_photo_is_answered_in_words(photo, capsys):
    assert main(["geotag", str(photo)]) == 0
    text = capsys.readouterr().out
    for part in (
        "000.jpg",
        "near ",
        "within ",
        "with probability 50 %",
        "alternatives",
        "bundle earth-tiny",
        "satellite",
    ):
        assert part in text


def test_a_photo_that_cannot_be_read_is_answered_too(tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    assert main(["geotag", str(tmp_path / "bad.jpg")]) == 0
    assert "no answer: undecodable" in capsys.readouterr().out


def test_how_large_an_image_may_be(photo, tmp_path, capsys):
    assert main(["geotag", str(photo), "--max-pixels", "100"]) == 0
    assert "no answer: too_large" in capsys.readouterr().out
    large = tmp_path / "large.jpg"
    Image.new("L", (12_000, 9_000), 90).save(large, quality=20)  # 108 million, as phones take
    assert main(["geotag", str(large)]) == 0
    assert "near " in capsys.readouterr().out


def test_missing_input(tmp_path, capsys):
    assert "does not exist" in error_of(capsys, "geotag", tmp_path / "gone.jpg")


def test_an_empty_folder(tmp_path, capsys):
    assert "no images in" in error_of(capsys, "geotag", tmp_path, "--output", tmp_path / "out")


def test_no_bundle(photo, capsys):
    assert "these ship with geo-ray: earth-tiny" in error_of(capsys, "geotag", photo, "--bundle", "nowhere")


def test_a_bundle_with_a_damaged_file(photo, tmp_path, capsys):
    shutil.copytree(shipped_bundles()["earth-tiny"], tmp_path / "bundle")
    cells = tmp_path / "bundle" / "cells.parquet"
    content = bytearray(cells.read_bytes())
    content[100] ^= 1
    cells.write_bytes(content)
    message = error_of(capsys, "geotag", photo, "--bundle", tmp_path / "bundle", "--output", tmp_path / "out")
    assert "cells.parquet is damaged" in message
    assert "restore" in message


def test_an_output_that_cannot_be_written(photo, capsys):
    assert "name another --output" in error_of(capsys, "geotag", photo, "--output", "/dev/null/out")


def test_an_output_with_other_results(photo, tmp_path, capsys):
    (tmp_path / "run.json").write_text(
        json.dumps({"fingerprint": "x", "bundle_fingerprint": "y", "top_k": 5, "inputs": []})
    )
    assert "another run's results" in error_of(capsys, "geotag", photo, "--output", tmp_path)


def test_too_many_candidates(photo, capsys):
    assert "top_k=999" in error_of(capsys, "geotag", photo, "--top-k", 999)


def test_bundle_list_and_show(capsys):
    assert main(["bundle", "list"]) == 0
    assert capsys.readouterr().out.startswith("earth-tiny: satellite crops")
    assert main(["bundle", "show", "earth-tiny"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "cells"


def test_an_unknown_recipe(tmp_path, capsys):
    assert "earth-tiny" in error_of(capsys, "train", "nothing", "--output", tmp_path)
    assert "name one, and the prefix with --storage" in error_of(capsys, "train", "smoke", "--output", "s3://b/run")


@pytest.mark.parametrize("command", ["geotag", "evaluate", "report", "bundle", "train", "serve"])
def test_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "usage: geo-ray" in capsys.readouterr().out
