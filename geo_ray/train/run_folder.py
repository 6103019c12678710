"""Where a training run keeps what it has reached: a folder that all workers can reach, or a prefix of an object store.

``run.json`` is what the run is, ``progress.jsonl`` a line a report, ``checkpoints/step-N`` what it can go on from,
``best`` and ``weights`` what it has learned, ``finished.json`` its end.
"""

import io
import json
import os
import posixpath
from pathlib import Path
from typing import Any

from geo_ray.errors import OutputError
from geo_ray.remote_files import filesystem, local_path, reason, redacted, remote_errors

RUN, PROGRESS, FINISHED, FAILED = "run.json", "progress.jsonl", "finished.json", "failed.json"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
FOLDER = "checkpoints"
COMPLETE, STREAMS = "checkpoint.json", "streams.pt"


class RunFolder:
    """Files by name below one address. Raises ``OutputError`` that names the address and what went wrong."""

    def __init__(self, uri: str | Path) -> None:
        text = str(uri)
        local = local_path(text)
        self.uri = text.rstrip("/") if local is None else os.path.abspath(local)
        self.local = None if local is None else Path(self.uri)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.uri,)

    def address(self, name: str) -> str:
        """The address of a file or folder."""
        return posixpath.join(self.uri, name)

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, whole or not at all."""
        with remote_errors(self._fault):
            fs, path = filesystem(self.address(name))
            if self.local is None:
                fs.pipe_file(path, content)
                return
            target = Path(self.address(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
            partial.write_bytes(content)
            partial.replace(target)

    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None where there is none."""
        with remote_errors(self._fault):
            fs, path = filesystem(self.address(name))
            try:
                content = fs.cat_file(path)
            except FileNotFoundError:
                return None
        return bytes(content)

    def write_json(self, name: str, value: Any) -> None:
        """Put a value there."""
        self.write(name, (json.dumps(value, indent=1) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The value of a file, or None where there is none."""
        content = self.read(name)
        return None if content is None else json.loads(content)

    def names(self, folder: str) -> list[str]:
        """What lies directly in a folder, sorted."""
        with remote_errors(self._fault):
            fs, path = filesystem(self.address(folder))
            fs.invalidate_cache()
            try:
                found = fs.ls(path, detail=False)
            except FileNotFoundError:
                return []
        return sorted(posixpath.basename(str(each).rstrip("/")) for each in found)

    def delete(self, name: str) -> None:
        """Take a file or a folder away, if it is there."""
        with remote_errors(self._fault):
            fs, path = filesystem(self.address(name))
            fs.invalidate_cache()
            if fs.exists(path):
                fs.rm(path, recursive=True)

    def fetch(self, name: str, target: Path) -> Path:
        """A file as one of this machine: itself, or a copy at ``target``."""
        if self.local is not None:
            return Path(self.address(name))
        content = self.read(name)
        if content is None:
            raise OutputError(f"{redacted(self.address(name))} is not there; run the training again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def _fault(self, error: Exception) -> OutputError:
        why = reason(error, self.uri)
        return OutputError(f"output {redacted(self.uri)!r} can't be used ({why}); mend it, or name another --output")


def complete_steps(folder: RunFolder) -> list[int]:
    """The steps of the checkpoints that are complete, in order."""
    names = [name for name in folder.names(FOLDER) if name.startswith("step-")]
    steps = [int(name.removeprefix("step-")) for name in names]
    return sorted(step for step in steps if folder.read(f"{checkpoint_name(step)}/{COMPLETE}") is not None)


def read_streams(folder: RunFolder, step: int) -> list[dict[str, Any]]:
    """How far the data of each worker were that wrote the checkpoint."""
    import torch

    content = folder.read(f"{checkpoint_name(step)}/{STREAMS}")
    assert content is not None
    states: list[dict[str, Any]] = torch.load(io.BytesIO(content), weights_only=True)
    return states


def checkpoint_name(step: int) -> str:
    """The folder of a step's checkpoint."""
    return f"{FOLDER}/step-{step:09d}"
