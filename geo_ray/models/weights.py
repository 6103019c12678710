"""The files of a checkpoint, JSON and safetensors, read with checks; pickles never.

Faults are ``InputError`` that name the file; who knows the folder adds it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from geo_ray.errors import InputError
from geo_ray.models.local_files import sha256_of

Shape = tuple[int, ...]

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
BUFFERS = (".position_ids", "attn_mask")  # counted up, not learned: older versions wrote them among the weights


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ``InputError`` that names the file where it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path.name} is damaged ({error}); get it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} is damaged (no object in it); get it again")
    return content


def find_weights(folder: Path, *names: str) -> list[Path]:
    """The safetensors files that hold the weights; ``InputError`` where there are none, or pickled ones only."""
    for name in names:
        if (folder / name).is_file():
            return [folder / name]
    if (folder / INDEX).is_file():
        return _shards(folder)
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise InputError(
            f"only pickled weights are there ({', '.join(pickles)}), and a pickle can run code when it is read; if you "
            f"trust them, write them to {names[0]} (safetensors.torch.save_file)"
        )
    raise InputError(f"{names[0]} is missing; copy the weights too (pickled ones are never downloaded)")


def _shards(folder: Path) -> list[Path]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    names = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    if not names or any(Path(name).name != name or Path(name).suffix != ".safetensors" for name in names):
        raise InputError(f"{INDEX}: weight_map does not name safetensors files beside it")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise InputError(f"{', '.join(missing)} of {INDEX} is missing; copy the weights too")
    return [folder / name for name in names]


def read_tensors(
    paths: Sequence[Path], expected: Mapping[str, Shape], sha256: str | None = None, prefix: str = ""
) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of these files, without ``prefix`` where they have it, and the files' digest.

    ``InputError`` where they aren't those that are expected, of floating-point numbers, with this digest. That of
    several files is the digest of ``sha256sum *.safetensors``'s output over them.
    """
    found = {name.removeprefix(prefix): shape for path in paths for name, shape in _headers(path).items()
             if not name.endswith(BUFFERS)}  # fmt: skip
    _check_shapes(found, expected, paths[0].name)
    digest = _digest(paths)
    if sha256 is not None and digest != sha256.strip().lower():
        raise InputError(f"{paths[0].name}: the sha256 is {digest}, not {sha256}; get the weights again, or give the "
                         "digest of those you mean")  # fmt: skip
    state: dict[str, torch.Tensor] = {}
    for path in paths:
        with safe_open(path, "pt") as file:
            names = {name.removeprefix(prefix): name for name in file.keys()}  # noqa: SIM118 (it is no dict)
            state |= {name: file.get_tensor(stored) for name, stored in names.items() if name in expected}
    # Batch norms count their batches in an integer of no dimension.
    if other := [name for name, tensor in state.items() if tensor.ndim and not tensor.is_floating_point()]:
        raise InputError(f"{paths[0].name}: {other[0]} is {state[other[0]].dtype}; quantised weights are not read")
    return state, digest


def _headers(path: Path) -> dict[str, Shape]:
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name} is damaged or incomplete ({error}); get it again") from error


def _check_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape], name: str) -> None:
    def some(names: Iterable[str]) -> str:
        listed = sorted(names)
        return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")

    if missing := expected.keys() - found.keys():
        raise InputError(f"{name}: tensors that the configuration asks for are missing: {some(missing)}")
    if unexpected := found.keys() - expected.keys():
        raise InputError(f"{name}: tensors that the configuration doesn't know: {some(unexpected)}")
    for key, shape in expected.items():
        if found[key] != shape:
            raise InputError(f"{name}: {key} has the shape {found[key]}, the configuration asks for {shape}")


def _digest(paths: Sequence[Path]) -> str:
    if len(paths) == 1:
        return sha256_of(paths[0])
    lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()
