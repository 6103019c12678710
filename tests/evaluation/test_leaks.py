"""Leaks by place, by author and by picture."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prediction_rows import answer, write_run

from geo_ray.benchmarks.planted_leaks import found_of, planted
from geo_ray.cli import main
from geo_ray.errors import InputError
from geo_ray.evaluation.leaks import Images, LeakRules, find_duplicates, find_leaks
from geo_ray.models.image_hash import perceptual_hash


def images(latlon, groups=None, features=None, hashes=None):
    latlon = np.asarray(latlon, np.float64).reshape(-1, 2)
    return Images(
        ids=pa.array([f"i{n}" for n in range(len(latlon))]),
        latlon=latlon,
        groups=None if groups is None else np.array(groups, dtype=object),
        features=None if features is None else np.asarray(features, np.float32),
        hashes=None if hashes is None else np.asarray(hashes, np.uint64),
    )


def test_places_and_authors_by_hand():
    train = images([(0, 0), (0, 179.9999)], ["me", ""])
    test = images([(0, 0.0008), (0, 0.01), (0, -179.9999), (50, 50), (60, 60)], ["you", "me", "you", "", "them"])
    leaks = find_leaks(test, train, LeakRules(within_km=0.1))
    assert leaks.nearest_km[:3] == pytest.approx([0.089, 1.112, 0.0222], abs=0.001)
    reasons = leaks.reasons
    assert reasons["near"].tolist() == [True, False, True, False, False]  # across the antimeridian too
    assert reasons["same_group"].tolist() == [False, True, False, False, False]  # no author is nobody's author
    assert not reasons["duplicate"].any()
    assert leaks.any.tolist() == [True, True, True, False, False]


def test_no_training_image_is_refused():
    with pytest.raises(InputError, match="no training images"):
        find_leaks(images([(0, 0)]), images(np.zeros((0, 2))), LeakRules())


def test_duplicates_by_hand():
    """Both must agree where both are known; of several the most alike; alone each has its own limit."""
    train = {"features": [[1, 0], [0, 1], [0.6, 0.8]], "hashes": [0, 0xFFFF, 0xFFFFFFFF]}
    near = [0.995, 0.1]  # 0.1 from the first
    test = {"features": [near, near, [0, 2], [-1, 0]], "hashes": [0b111, 0xFFFFFF, 0xFFFE, 0]}
    places = [(0, 0)] * 4
    both = find_duplicates(images(places, **test), images(places[:3], **train), LeakRules())
    assert both.tolist() == [0, -1, 1, -1]  # the second has the features alone, the last the hash alone
    by_hash = {"hashes": test["hashes"]}, {"hashes": train["hashes"]}
    sides = [images(places[: len(one["hashes"])], **one) for one in by_hash]
    assert find_duplicates(*sides, LeakRules()).tolist() == [0, 1, 1, 0]
    by_features = {"features": test["features"]}, {"features": train["features"]}
    sides = [images(places[: len(one["features"])], **one) for one in by_features]
    assert find_duplicates(*sides, LeakRules()).tolist() == [0, 0, 1, -1]


def test_rules_that_make_no_sense():
    with pytest.raises(InputError, match="within_km=-1"):
        LeakRules(within_km=-1.0)
    with pytest.raises(InputError, match="max_bits=65"):
        LeakRules(max_bits=65)


def test_a_hash_hardly_changes_with_the_picture():
    rng = np.random.default_rng(0)
    picture, other = (
        np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((120, 120))) for _ in range(2)
    )
    lighter = (picture.astype(float) * 0.8 + 30).astype(np.uint8)
    first = perceptual_hash(picture)
    assert np.bitwise_count(first ^ perceptual_hash(lighter)) <= 4
    assert np.bitwise_count(first ^ perceptual_hash(other)) >= 16


def test_planted_pictures_are_found():
    """jobs/benchmark_leaks.py does the same with 100 of 5,000."""
    test, train, is_planted = planted(400, 40, seed=5)
    found = found_of(test, train, is_planted, LeakRules())
    assert found["recall"] >= 0.9
    assert found["precision"] >= 0.9


def write_table(path, rows):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "latitude", "longitude", "author"])
        table.writerows(rows)
    return path


def test_the_commands_mark_leaks_and_evaluate_without_them(tmp_path, capsys):
    train = write_table(tmp_path / "train.csv", [("t1.jpg", 10, 10, "a"), ("t2.jpg", 20, 20, "b")])
    rows = [(f"i{n}.jpg", 30 + n, 30, "b" if n < 5 else f"u{n}") for n in range(30)]
    rows += [("near.jpg", 10.0001, 10, "z")]
    test = write_table(tmp_path / "test.csv", rows)
    output = tmp_path / "leaks.parquet"
    arguments = ["leaks", str(test), "--train", str(train), "--group-by", "author", "--output", str(output)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "6 of 31 test images leak: 1 within 0.1 km of training, 5 of the same author" in text
    assert "not compared: pictures (no features)" in text
    table = {row["image_id"]: row for row in pq.read_table(output).to_pylist()}
    assert table["near.jpg"]["reasons"] == "near"
    assert table["i0.jpg"] == {"image_id": "i0.jpg", "leak": True, "reasons": "same_group", "duplicate_of": None,
                               "nearest_train_km": table["i0.jpg"]["nearest_train_km"]}  # fmt: skip
    run = write_run(tmp_path / "run", [answer(name, float(lat), 30.0 if n < 5 else 31.0)
                                       for n, (name, lat, lon, _) in enumerate(rows)])  # fmt: skip
    saved = tmp_path / "m.json"
    arguments = ["evaluate", str(run), "--truth", str(test), "--leaks", str(output), "--json", str(saved)]
    assert main(arguments) == 0
    assert "without the 6 of 31 images that leak" in capsys.readouterr().out
    metrics = json.loads(saved.read_text())
    assert metrics["accuracy_at_km"]["1"] == pytest.approx(5 / 31)
    assert metrics["without_leaks"]["num_images"] == 25
    assert metrics["without_leaks"]["accuracy_at_km"]["1"] == 0.0
    assert main(["evaluate", str(run), str(run), "--truth", str(test), "--leaks", str(output)]) == 2
    assert "--leaks is for one run" in capsys.readouterr().err


def write_features(folder, names, features, hashes=None):
    folder.mkdir()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(features), pa.float32()), np.shape(features)[1])
    columns = {"image_id": pa.array(names), "features": lists}
    if hashes is not None:
        columns["phash"] = pa.array(hashes, pa.uint64())
    pq.write_table(pa.table(columns), folder / "part.parquet")
    return str(folder)


def test_pictures_are_compared_by_what_embed_wrote(tmp_path, capsys):
    train = write_table(tmp_path / "train.csv", [("t1.jpg", 10, 10, "a"), ("t2.jpg", 20, 20, "b")])
    test = write_table(tmp_path / "test.csv", [("x.jpg", 50, 50, "c"), ("y.jpg", -50, 50, "d")])
    ours = write_features(tmp_path / "ours", ["x.jpg", "y.jpg"], [[1, 0], [-1, 0]], [7, 0])
    theirs = write_features(tmp_path / "theirs", ["t1.jpg", "t2.jpg"], [[0, 1], [0.99, 0.1]], [0, 5])
    output = tmp_path / "leaks.parquet"
    arguments = ["leaks", str(test), "--train", str(train), "--output", str(output), "--features", ours]
    assert main([*arguments, "--train-features", theirs]) == 0
    assert "1 near-duplicates; not compared: authors" in capsys.readouterr().out
    rows = pq.read_table(output).to_pylist()
    assert [(row["image_id"], row["duplicate_of"]) for row in rows] == [("x.jpg", "t2.jpg"), ("y.jpg", None)]
    assert main(arguments) == 2
    assert "the training images have no features" in capsys.readouterr().err
    wide = write_features(tmp_path / "wide", ["t1.jpg", "t2.jpg"], [[0, 1, 0], [1, 0, 0]])
    assert main([*arguments, "--train-features", wide]) == 2
    assert "different encoders" in capsys.readouterr().err


def test_an_index_is_training_data_too(tmp_path, capsys):
    from geo_ray.index.index_folder import read_index
    from geo_ray.models.bundle import open_bundle

    folder = open_bundle("earth-tiny").path("index")
    member = read_index(folder)
    lat, lon = member.member_latlon[7].tolist()
    test = write_table(tmp_path / "test.csv", [("x.jpg", lat, lon, ""), ("y.jpg", -89, 0, "")])
    features = write_features(
        tmp_path / "f", ["x.jpg", "y.jpg"], np.stack([member.member_features.decode()[7], np.eye(128)[0]])
    )
    output = tmp_path / "leaks.parquet"
    arguments = ["leaks", str(test), "--train", str(folder), "--features", features, "--output", str(output)]
    assert main(arguments) == 0
    assert "1 within 0.1 km" in capsys.readouterr().out
    found = {row["image_id"]: row for row in pq.read_table(output).to_pylist()}
    assert found["x.jpg"]["reasons"] == "near,duplicate"
    assert found["x.jpg"]["duplicate_of"] == str(member.member_ids[7])
    assert found["y.jpg"]["reasons"] == ""


def test_a_file_of_something_else(tmp_path):
    from geo_ray.evaluation.comparison import compare
    from geo_ray.evaluation.leaks import without_leaks
    from geo_ray.evaluation.tables import read_predictions, read_truth

    truth = write_table(tmp_path / "t.csv", [("a", 1, 2, "")])
    run = write_run(tmp_path / "run", [answer("a", 1.0, 2.0)])
    comparison = compare(read_predictions(run), read_truth(truth))
    with pytest.raises(InputError, match="not what geo-ray leaks writes"):
        without_leaks(comparison, truth)
    pq.write_table(pa.table({"image_id": ["b"], "leak": [True], "reasons": ["near"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="names none of these images"):
        without_leaks(comparison, tmp_path / "other.parquet")
    pq.write_table(pa.table({"image_id": ["a"], "leak": [True], "reasons": ["near"]}), tmp_path / "all.parquet")
    with pytest.raises(InputError, match="all 1 images leak"):
        without_leaks(comparison, tmp_path / "all.parquet")
