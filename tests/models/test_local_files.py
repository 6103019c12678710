"""Digests, and downloads that get their name once they are whole."""

import pytest

from geo_ray.models.local_files import adopt, cache_folder, sha256_of


def test_two_processes_may_fetch_at_once(tmp_path):
    """The second finds the first one's folder when it wants to give its own that name."""
    folder, partial = tmp_path / "whole", tmp_path / "whole.1"
    for path in (folder, partial):
        path.mkdir()
        (path / "config.json").write_text("{}")
    adopt(partial, folder)
    assert folder.is_dir()
    assert not partial.exists()
    with pytest.raises(OSError, match="whole"):
        adopt(partial, tmp_path / "missing")


def test_the_digest_is_sha256s(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_cache_is_where_the_user_wants_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "geo-ray"
