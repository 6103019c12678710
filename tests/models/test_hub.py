"""Fetching: folders, remote file systems and the hub, none of them over the network."""

import fsspec
import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from geo_ray.errors import InputError
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.hub import fetch, fetch_checkpoint
from tests.models.checkpoint_files import write_hugging_face, write_open_clip

PATTERNS = ("*.json", "*.txt", "*.safetensors")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "geo-ray" / "weights"


class TestFolder:
    def test_it_is_taken_as_it_is(self, tmp_path):
        fetched = fetch(str(tmp_path), None, PATTERNS)
        assert (fetched.folder, fetched.origin, fetched.revision) == (tmp_path, str(tmp_path), "")

    def test_it_has_no_revisions(self, tmp_path):
        with pytest.raises(InputError, match=r"a revision \(v1\) is something of the Hugging Face hub"):
            fetch(str(tmp_path), "v1", PATTERNS)

    @pytest.mark.parametrize("source", ["nowhere", "/no/such/folder", "a/b/c", "", "photos and/more"])
    def test_what_is_nothing_that_is_known(self, source):
        with pytest.raises(InputError, match=f"'{source}' is no folder, URL, owner/name .* or MODEL:TAG"):
            fetch(source, None, PATTERNS)


class TestRemote:
    @pytest.fixture
    def memory(self, tmp_path):
        """A checkpoint in fsspec's memory, with pickled weights beside it."""
        folder = write_hugging_face(tmp_path / "clip")
        for name in ("pytorch_model.bin", "model.pt", "README.md"):
            (folder / name).write_text("not to be downloaded")
        file_system = fsspec.filesystem("memory")
        file_system.put(str(folder), "/bucket/clip", recursive=True)
        yield file_system
        file_system.rm("/bucket", recursive=True)

    def test_it_is_downloaded_once_without_pickles(self, memory, cache):
        fetched = fetch("memory://bucket/clip", None, (*PATTERNS, "*"))
        assert (fetched.origin, fetched.revision) == ("memory://bucket/clip", "")
        names = {path.name for path in fetched.folder.iterdir()}
        assert {"config.json", "merges.txt", "model.safetensors", "README.md"} <= names
        assert not {"pytorch_model.bin", "model.pt"} & names
        read_checkpoint(fetched.folder)
        (fetched.folder / "README.md").write_text("kept")
        again = fetch("memory://bucket/clip", None, (*PATTERNS, "*"))
        assert again.folder == fetched.folder
        assert (again.folder / "README.md").read_text() == "kept"
        assert [path for path in cache.iterdir()] == [fetched.folder]  # noqa: C416 (nothing partial is left)

    def test_only_the_patterns(self, memory):
        names = {path.suffix for path in fetch("memory://bucket/clip/", None, ("*.json",)).folder.iterdir()}
        assert names == {".json"}

    def test_a_changed_file_is_another_folder(self, memory):
        first = fetch("memory://bucket/clip", None, PATTERNS).folder
        memory.pipe("/bucket/clip/config.json", b"{}")
        second = fetch("memory://bucket/clip", None, PATTERNS).folder
        assert second != first
        assert (second / "config.json").read_text() == "{}"

    def test_an_interrupted_download_is_begun_anew(self, memory, cache, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), "get_file", lambda self, source, target: (_ for _ in ()).throw(OSError("cut")))
            with pytest.raises(InputError, match=r"memory://bucket/clip can't be fetched \(cut\)"):
                fetch("memory://bucket/clip", None, PATTERNS)
        read_checkpoint(fetch("memory://bucket/clip", None, PATTERNS).folder)

    def test_what_is_not_there(self, memory):
        for url in ("memory://bucket/nothing", "nothere://bucket/clip"):
            with pytest.raises(InputError, match=f"{url} can't be fetched"):
                fetch(url, None, PATTERNS)
        with pytest.raises(InputError, match=r"there is nothing in it of \*.gguf; check the address"):
            fetch("memory://bucket/clip", None, ("*.gguf",))

    def test_a_checkpoint(self, memory):
        read_checkpoint(fetch_checkpoint("memory://bucket/clip").folder)


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """A hub with one repository, owner/both, that holds its weights in both forms, and what was asked of it."""
    source = write_open_clip(write_hugging_face(tmp_path / "both"))
    (source / "pytorch_model.bin").write_text("pickle")
    asked = []

    def snapshot_download(repository, *, revision, allow_patterns, ignore_patterns):
        asked.append((repository, revision, tuple(allow_patterns)))
        folder = tmp_path / "hub" / COMMIT
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {path for pattern in allow_patterns for path in source.glob(pattern)}
        for path in wanted - {path for pattern in ignore_patterns for path in source.glob(pattern)}:
            (folder / path.name).write_bytes(path.read_bytes())
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


class TestHub:
    def test_it_is_pinned_to_its_commit(self, downloads):
        fetched = fetch("owner/both", "v1.0", (*PATTERNS, "*.bin"))
        assert downloads == [("owner/both", "v1.0", (*PATTERNS, "*.bin"))]
        assert (fetched.origin, fetched.revision) == ("https://huggingface.co/owner/both", COMMIT)
        assert (fetched.folder / "model.safetensors").is_file()
        assert not (fetched.folder / "pytorch_model.bin").exists()

    def test_weights_are_downloaded_in_one_form(self, downloads):
        fetched = fetch_checkpoint("owner/both", "main")
        assert [revision for _, revision, _ in downloads] == ["main", COMMIT]
        assert (fetched.folder / "open_clip_model.safetensors").is_file()
        assert not (fetched.folder / "model.safetensors").exists()
        assert read_checkpoint(fetched.folder).preprocessing == "open_clip"

    def test_or_in_the_other_where_there_is_no_first(self, downloads, tmp_path):
        (tmp_path / "both" / "open_clip_model.safetensors").unlink()
        assert read_checkpoint(fetch_checkpoint("owner/both").folder).preprocessing == "transformers"

    def test_a_model_of_open_clips_list(self, downloads):
        fetched = fetch("ViT-B-32:laion2b_s34b_b79k", None, PATTERNS)
        assert downloads[0][0] == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
        assert fetched.origin == "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K"

    @pytest.mark.parametrize(
        ("source", "message"),
        [("ViT-B-32:none", "open_clip's tags of ViT-B-32: openai, .*laion2b_s34b_b79k"),
         ("ViT-Z:openai", "open_clip's tags of ViT-Z: none: no such model")],
    )  # fmt: skip
    def test_a_model_that_is_not_on_it(self, downloads, source, message):
        with pytest.raises(InputError, match=message):
            fetch(source, None, PATTERNS)

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            (errors.RepositoryNotFoundError, "owner/name at v1: no such repository .*check the name, set HF_TOKEN"),
            (
                errors.GatedRepoError,
                "lets in those only who asked; ask at https://huggingface.co/owner/name and set HF_",
            ),
            (errors.RevisionNotFoundError, "owner/name at v1: the repository has no such revision; name a commit"),
            (
                errors.LocalEntryNotFoundError,
                "can't be reached, or HF_HUB_OFFLINE .*download it elsewhere and name the",
            ),
            (errors.HfHubHTTPError, r"can't be downloaded \(.*try again, or download it elsewhere"),
            (ConnectionError, r"can't be downloaded \(.*try again, or download it elsewhere"),
        ],
    )
    def test_faults(self, monkeypatch, kind, message):
        def snapshot_download(*_, **__):
            raise kind.__new__(kind)  # their constructors ask for a response

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        with pytest.raises(InputError, match=message):
            fetch("owner/name", "v1", PATTERNS)


class TestOffline:
    """With the hub's own client, which HF_HUB_OFFLINE=1 keeps off the network."""

    @pytest.fixture(autouse=True)
    def hub_cache(self, monkeypatch, tmp_path):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        return tmp_path / "hub"

    def test_what_is_in_the_hubs_cache_is_enough(self, hub_cache):
        repository = hub_cache / "models--owner--name"
        write_hugging_face(repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        for revision in (None, "main", COMMIT):
            fetched = fetch_checkpoint("owner/name", revision)
            assert fetched.revision == COMMIT
            read_checkpoint(fetched.folder)

    def test_what_is_not_is_named(self):
        with pytest.raises(InputError, match="owner/name: the Hugging Face hub can't be reached, or HF_HUB_OFFLINE"):
            fetch("owner/name", None, PATTERNS)
