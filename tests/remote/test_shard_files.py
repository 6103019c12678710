"""Where shards lie, copies of them, and what is wrong with them by name."""

import json
import shutil
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from geo_ray.errors import BundleError
from geo_ray.index.index_folder import check_info
from geo_ray.remote import shard_files
from geo_ray.remote.shard_files import add_digests, find_shards, local_copy, open_source
from tests.data.s3_server import s3_server
from tests.remote.shards import NUM_CELLS, NUM_FEATURES, batches, same, whole_shard, written_split


def test_a_split_and_a_whole_index(tmp_path, monkeypatch):
    folder = written_split(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    found = find_shards("3")
    assert [source.address for source in found.shards] == [str(folder / f"shard-{n:03d}") for n in range(3)]
    assert found.generation
    whole = find_shards("whole")
    assert len(whole.shards) == 1
    assert whole.owners.tolist() == [0] * NUM_CELLS
    (cells, features), *_ = batches(1)
    assert same(open_source(whole.shards[0]).search(cells, features, 2, "cell"),
                whole_shard(folder).search(cells, features, 2, "cell"))  # fmt: skip


def test_a_node_copies_a_shard_once(tmp_path, monkeypatch):
    address = f"file://{written_split(tmp_path, 2)}"
    source = find_shards(address).shards[1]
    made = []
    download = shard_files._download
    monkeypatch.setattr(shard_files, "_download", lambda *args: made.append(args) or download(*args))
    with ThreadPool(4) as pool:
        folders = pool.map(lambda _: local_copy(source, str(tmp_path / "cache")), range(8))
    assert len(made) == 1
    assert set(folders) == {tmp_path / "cache" / source.generation / "shard-001"}
    left = {path.name for path in folders[0].parent.iterdir()}
    assert left == {"shard-001", "shard-001.lock"}
    assert open_source(source, cache=str(tmp_path / "cache")).index.num_cells == NUM_CELLS


def test_a_copy_is_checked(tmp_path, monkeypatch):
    folder = written_split(tmp_path, 2)
    add_digests(folder)
    found = find_shards(f"file://{folder}")
    assert set(found.shards[0].digests) == {path.name for path in (folder / "shard-000").iterdir()}
    assert find_shards(str(folder)).shards[1].digests == found.shards[1].digests
    path = folder / "shard-000" / "member_codes.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"shard-000/member_codes\.npy is damaged \(sha256"):
        open_source(found.shards[0], cache=str(tmp_path / "cache"))
    path.write_bytes(content)
    open_source(found.shards[0], cache=str(tmp_path / "cache"))  # nothing is left of the damaged copy


def test_what_did_not_arrive_is_named(tmp_path, monkeypatch):
    source = find_shards(f"file://{written_split(tmp_path, 2)}").shards[0]
    get_file = LocalFileSystem.get_file

    def cut(self, path, target, **more):
        get_file(self, path, target, **more)
        with open(target, "r+b") as file:
            file.truncate(10)

    monkeypatch.setattr(LocalFileSystem, "get_file", cut)
    with pytest.raises(BundleError, match=r"10 of \d+ bytes arrived"):
        local_copy(source, str(tmp_path / "cache"))
    assert not (tmp_path / "cache" / source.generation / "shard-000").exists()


def test_another_index_is_refused(tmp_path):
    found = find_shards(str(written_split(tmp_path, 2, encoder_fingerprint="abc")))
    check_info(found.address, found.whole, num_features=NUM_FEATURES, num_cells=NUM_CELLS, encoder_fingerprint="abc")
    for wrong, message in (
        ({"num_features": 512}, "num_features=16 is not 512"),
        ({"num_cells": 7}, "num_cells=23 is not 7"),
        ({"encoder_fingerprint": "xyz"}, "encoder abc, not xyz"),
    ):
        with pytest.raises(BundleError, match=message):
            check_info(found.address, found.whole, **wrong)


def test_what_is_wrong_is_named(tmp_path):
    folder = written_split(tmp_path, 2)
    found = find_shards(str(folder))
    other = written_split(tmp_path / "other", 2, seed=1)
    for address in (str(tmp_path / "none"), f"file://{tmp_path}/none", "nosuch://x", f"file://{folder}/shard-000"):
        with pytest.raises(BundleError):
            find_shards(address)
    with pytest.raises(BundleError, match="split it with"):
        find_shards(f"file://{tmp_path}/whole")
    path = folder / "shard-001" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder_fingerprint": "another"}))
    with pytest.raises(BundleError, match="not the one"):
        open_source(found.shards[1])
    shutil.rmtree(folder / "shard-001")
    with pytest.raises(BundleError, match="shard-001"):
        open_source(found.shards[1])
    shutil.copytree(other / "shard-001", folder / "shard-001")
    with pytest.raises(BundleError, match="generation"):
        open_source(found.shards[1])
    path = folder / "shard-000" / "member_latlon.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BundleError, match=r"shard-000/member_latlon\.npy"):
        open_source(found.shards[0])
    np.save(folder / "owners.npy", np.zeros(2, np.int64))
    with pytest.raises(BundleError, match=r"owners\.npy"):
        find_shards(f"file://{folder}")


def test_from_s3(tmp_path):
    folder = written_split(tmp_path, 2)
    add_digests(folder)
    with s3_server("bucket") as client:
        for path in folder.rglob("*.*"):
            client.put_object(Bucket="bucket", Key=f"index/{path.relative_to(folder)}", Body=path.read_bytes())
        for number, source in enumerate(find_shards("s3://bucket/index/").shards):
            copied = open_source(source, cache=str(tmp_path / "cache")).index
            own = open_source(find_shards(str(folder)).shards[number]).index
            np.testing.assert_array_equal(copied.member_ids, own.member_ids)
        client.delete_object(Bucket="bucket", Key="index/shard-001/member_ids.npy")
        s3fs.S3FileSystem.clear_instance_cache()  # and the listing that it remembers
        with pytest.raises(BundleError, match=r"shard-001/member_ids\.npy"):
            open_source(find_shards("s3://bucket/index").shards[1], cache=str(tmp_path / "another"))
