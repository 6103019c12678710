"""The record of a bulk run beside its output: what was asked for, what happened, what is done."""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from geo_ray.data.sinks import part_files, written_rows
from geo_ray.errors import OutputError

RUN, EVENTS, MANIFEST, SUCCESS, PREDICTIONS = "run.json", "events.jsonl", "manifest.json", "_SUCCESS", "predictions"


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """What decides a run's answers; results of another key are never mixed in. Inputs may grow between runs."""

    bundle_fingerprint: str
    top_k: int | None
    inputs: tuple[str, ...]
    features: bool = False
    views_by: str | None = None
    dtype: str = "auto"
    index: str = ""  # the generation of one in place of the bundle's

    @property
    def fingerprint(self) -> str:
        """A short digest of all of it."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class Ledger:
    """One run's output folder, local or remote."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.fs, self.root = _filesystem(output)
        self._events: list[str] = []

    @property
    def predictions(self) -> str:
        """The folder of the prediction files."""
        return f"{self.root}/{PREDICTIONS}"

    def begin(self, key: RunKey, resume: bool) -> dict[str, str]:
        """Claim the folder for this run; returns ``image_id`` to ``problem`` of what is done already.

        Raises ``OutputError`` when the folder can't be written or holds results that this run must not touch.
        """
        try:
            self.fs.create_dir(self.predictions, recursive=True)
            before = self._read_json(RUN)
            parts = part_files(self.fs, self.predictions)
            if before is None and not parts:
                self._write_json(RUN, dataclasses.asdict(key) | {"fingerprint": key.fingerprint})
        except OSError as error:
            raise OutputError(f"output {self.output!r} can't be written ({error}); name another --output") from error
        if before is None and parts:
            raise OutputError(f"output {self.output!r} holds prediction files of unknown origin; name another --output")
        if before is None:
            return {}
        if before["fingerprint"] != key.fingerprint:
            raise OutputError(f"output {self.output!r} holds another run's results ({_difference(before, key)}); "
                              "name another --output, or delete it")  # fmt: skip
        if not resume:
            raise OutputError(
                f"output {self.output!r} holds results of this run; pass --resume to complete it, or delete it"
            )
        return written_rows(self.fs, self.predictions)

    def event(self, name: str, **details: Any) -> None:
        """Append a line to ``events.jsonl``."""
        self._events.append(json.dumps({"time": time.time(), "event": name} | details))
        self._write_text(EVENTS, "\n".join(self._events) + "\n")

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write ``manifest.json`` and, last, ``_SUCCESS``."""
        self._write_json(MANIFEST, manifest)
        self._write_text(SUCCESS, "")

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        self._write_text(name, json.dumps(value, indent=1) + "\n")

    def _write_text(self, name: str, text: str) -> None:
        with self.fs.open_output_stream(f"{self.root}/{name}") as stream:
            stream.write(text.encode())

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = f"{self.root}/{name}"
        if self.fs.get_file_info(path).type == FileType.NotFound:
            return None
        with self.fs.open_input_stream(path) as stream:
            value: dict[str, Any] = json.loads(stream.read())
        return value


def _filesystem(output: str) -> tuple[FileSystem, str]:
    """The file system of a folder or URI, and the path within it."""
    try:
        if "://" in output:
            fs, root = FileSystem.from_uri(output)
            return fs, str(root)
        return LocalFileSystem(), output
    except (OSError, ValueError) as error:
        raise OutputError(f"output {output!r}: {error}; name a folder or a URI such as s3://bucket/prefix") from error


def _difference(before: dict[str, Any], key: RunKey) -> str:
    """What the two runs do not share, in words."""
    now = json.loads(json.dumps(dataclasses.asdict(key)))
    return "; ".join(f"{name} {before.get(name)!r} there, {now[name]!r} asked for" for name in now
                     if before.get(name) != now[name])  # fmt: skip
