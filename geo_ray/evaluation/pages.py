"""Pages that are one file and load nothing else: a template with its style, script and content in it."""

import base64
import hashlib
import os
import re
from importlib.resources import files
from pathlib import Path

from geo_ray.errors import OutputError

STYLE = "report.css"


def page(template: str, script: str = "", **parts: str) -> str:
    """A template of the folder ``page``, filled: ``{{STYLE}}``, ``{{SCRIPT}}`` and what else is given by name.

    ``{{POLICY}}`` is a Content-Security-Policy that allows this style and script and pictures inside the page, no more.
    """
    style, code = _read(STYLE), _read(script) if script else ""
    policy = f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src {_source(style)}"
    if script:
        policy += f"; script-src {_source(code)}"
    parts |= {"POLICY": policy, "STYLE": style, "SCRIPT": code}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read(template))


def write_page(text: str, path: Path) -> None:
    """Write a page whole or not at all; ``OutputError`` where it can't be written."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        if partial.is_file():
            partial.unlink()
        raise OutputError(f"{path} can't be written ({error}); choose a folder that can") from error


def _read(name: str) -> str:
    return (files("geo_ray.evaluation") / "page" / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """The source expression of a policy that allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
