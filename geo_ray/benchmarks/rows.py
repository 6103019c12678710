"""Rows of figures, for the terminal and as JSON."""

import json
from pathlib import Path
from typing import Any


def say(row: dict[str, Any]) -> None:
    """Print a row."""
    texts = {key: f"{value:.5g}" if isinstance(value, float) else str(value) for key, value in row.items()}
    print("  ".join(f"{key} {text}" for key, text in texts.items()), flush=True)


def write_json(path: Path | None, result: Any) -> None:
    """Write the result to a file, whose folder is made; nowhere without one."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
