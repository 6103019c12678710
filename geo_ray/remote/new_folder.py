"""Output that is a new folder, here or at a URI."""

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from geo_ray.errors import OutputError
from geo_ray.remote_files import filesystem, remote_errors


@contextlib.contextmanager
def new_folder(output: str) -> Iterator[Path]:
    """A new folder to write to; what is meant for a URI is copied there when all is written.

    ``OutputError`` where there are files already, or none can be written.
    """
    if "://" in output:
        with tempfile.TemporaryDirectory() as temporary:
            fs, root = _open_output(output)
            yield Path(temporary)
            _upload(Path(temporary), fs, root, output)
        return
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"output {output!r} is not an empty folder; name another, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _open_output(output: str) -> tuple[Any, str]:
    with _unwritable(output):
        fs, root = filesystem(output)
        taken = fs.exists(root)
    if taken:
        raise OutputError(f"output {output!r} holds files; name another, or delete them")
    return fs, str(root).rstrip("/")


def _upload(folder: Path, fs: Any, root: str, output: str) -> None:
    """Copy all files, those last without which the rest doesn't open."""
    files = (path for path in folder.rglob("*") if path.is_file())
    with _unwritable(output):
        for path in sorted(files, key=lambda path: (path.parent == folder and path.suffix == ".json", path)):
            target = f"{root}/{path.relative_to(folder).as_posix()}"
            fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            fs.put_file(str(path), target)


def _unwritable(output: str) -> AbstractContextManager[None]:
    return remote_errors(lambda why: OutputError(f"output {output!r} can't be written ({why}); name another"))
