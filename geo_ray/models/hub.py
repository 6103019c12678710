"""Where published weights come from: a folder, an fsspec URL, or the Hugging Face hub."""

import fnmatch
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo_ray.errors import InputError
from geo_ray.models.checkpoints import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS
from geo_ray.models.local_files import adopt, cache_folder
from geo_ray.remote_files import CHECK, filesystem, remote_errors

REFUSED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5", "*.onnx")  # never downloaded
SETTINGS = ("*.json", "*.txt")  # configuration and tokenizer
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
OPEN_CLIP_NAME = re.compile(r"([\w.-]+):([\w.-]+)")
INSTEAD = "or download it elsewhere and name the folder"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A local folder, what it came from, and the hub's commit that it is ("" where it didn't come from there)."""

    folder: Path
    origin: str
    revision: str


def fetch(source: str, revision: str | None, patterns: Sequence[str]) -> Fetched:
    """A local folder with the source's files of these patterns, downloaded once.

    ``source`` is a folder, which is taken as it is; an ``s3://`` or other fsspec URL; ``owner/name`` on the Hugging
    Face hub, at a commit, tag or branch (main); or ``MODEL:TAG`` of open_clip's list, which is a repository there.
    Pickles are never downloaded. ``InputError`` says what can't be had and what to do.
    """
    if "://" in source or (source and Path(source).is_dir()):
        if revision is not None:
            raise InputError(f"{source}: a revision ({revision}) is something of the Hugging Face hub; leave it out")
        folder = _download(source, patterns) if "://" in source else Path(source)
        return Fetched(folder=folder, origin=source, revision="")
    if match := OPEN_CLIP_NAME.fullmatch(source):
        source = _open_clip_repository(*match.groups())
    if not REPOSITORY.fullmatch(source):
        raise InputError(f"{source!r} is no folder, URL, owner/name on the Hugging Face hub or MODEL:TAG of open_clip")
    folder = _snapshot(source, revision, patterns)
    return Fetched(folder=folder, origin=f"https://huggingface.co/{source}", revision=folder.name)


def fetch_checkpoint(source: str, revision: str | None = None) -> Fetched:
    """As ``fetch``, what ``read_checkpoint`` reads; weights that a repository holds in two forms are fetched in one."""
    settings = fetch(source, revision, SETTINGS)
    pinned = settings.revision or revision
    if (settings.folder / OPEN_CLIP_CONFIG).is_file():
        fetched = fetch(source, pinned, (*SETTINGS, OPEN_CLIP_WEIGHTS))
        if (fetched.folder / OPEN_CLIP_WEIGHTS).is_file():
            return fetched
    return fetch(source, pinned, (*SETTINGS, "model*.safetensors"))


def _open_clip_repository(model: str, tag: str) -> str:
    import open_clip  # 2 s to import

    published: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag)
    if repository := published.get("hf_hub", "").strip("/"):
        return str(repository)
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none: no such model"
    raise InputError(f"{model}:{tag} is not on the Hugging Face hub; open_clip's tags of {model}: {tags}")


def _snapshot(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The hub's own cache folder of a commit, which it is named for."""
    import huggingface_hub
    from huggingface_hub import errors

    at = f"{repository} at {revision}" if revision else repository
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(REFUSED)
        )
    except errors.GatedRepoError as error:
        raise InputError(f"{at}: its owner lets in those only who asked; ask at https://huggingface.co/{repository} "
                         f"and set HF_TOKEN, {INSTEAD}") from error  # fmt: skip
    except errors.RepositoryNotFoundError as error:
        raise InputError(f"{at}: no such repository on the Hugging Face hub, or a private one; check the name, set "
                         f"HF_TOKEN for a private one, {INSTEAD}") from error  # fmt: skip
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{at}: the repository has no such revision; name a commit, tag or branch of it") from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(f"{at}: the Hugging Face hub can't be reached, or HF_HUB_OFFLINE forbids it, and its cache "
                         f"doesn't hold all of it; connect, {INSTEAD}") from error  # fmt: skip
    except (OSError, ValueError) as error:
        raise InputError(f"{at}: can't be downloaded ({error}); try again, {INSTEAD}") from error
    return Path(folder)


def _download(url: str, patterns: Sequence[str]) -> Path:
    """A local copy of a remote folder's files, in a folder named for what they are and when they were written."""
    with remote_errors(lambda why: InputError(f"{url} can't be fetched ({why}); {CHECK}")):
        fs, root = filesystem(url)
        found = [path for path in fs.ls(root.rstrip("/"), detail=False) if _wanted(path, patterns)]
        if not found:
            raise InputError(f"{url}: there is nothing in it of {', '.join(patterns)}; check the address")
        state = "\n".join(f"{path} {fs.ukey(path)}" for path in sorted(found))
        folder = cache_folder() / "weights" / hashlib.sha256(f"{url}\n{state}".encode()).hexdigest()[:16]
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.{os.getpid()}")
            partial.mkdir(parents=True, exist_ok=True)
            for path in found:
                fs.get_file(path, str(partial / Path(path).name))
            adopt(partial, folder)
    return folder


def _wanted(path: str, patterns: Sequence[str]) -> bool:
    name = path.rsplit("/", 1)[-1]
    return any(fnmatch.fnmatch(name, p) for p in patterns) and not any(fnmatch.fnmatch(name, p) for p in REFUSED)
