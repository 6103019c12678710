"""Settings of a recipe, changed by name: ``learning_rate=1e-5``, or of a step of several ``head.batch_size=512``."""

import dataclasses
import json
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from geo_ray.errors import InputError

C = TypeVar("C")


def with_settings(config: C, changes: Sequence[str]) -> C:
    """The configuration with ``NAME=VALUE`` set; ``InputError`` names what there is no such setting of, or can't be."""
    for text in changes:
        name, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"--set {text} must be NAME=VALUE, as learning_rate=1e-5")
        config = _changed(config, name.strip().split("."), value.strip(), text)
    return config


def _changed(config: Any, path: list[str], value: str, text: str) -> Any:
    known = {entry.name: entry for entry in dataclasses.fields(config)}
    name, *below = path
    if name not in known:
        raise InputError(f"--set {text}: there is no setting {name!r}; there are {', '.join(known)}")
    held = getattr(config, name)
    if below:
        if not dataclasses.is_dataclass(held):
            raise InputError(f"--set {text}: {name} has no settings of its own")
        new: Any = _changed(held, below, value, text)
    else:
        new = _value(value, typing.get_type_hints(type(config))[name], text)
    try:
        return dataclasses.replace(config, **{name: new})
    except ValueError as error:
        raise InputError(f"--set {text}: {error}") from error


def _value(text: str, kind: Any, said: str) -> Any:
    """A text as a value of a field's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is str or origin is typing.Literal:
        return text
    try:
        if origin is tuple:
            items = [item.strip() for item in text.strip("()[] ").split(",") if item.strip()]
            return tuple(_value(item, arguments[0], said) for item in items)
        found = json.loads(text.lower() if kind is bool else text)
    except json.JSONDecodeError:
        found = text
    if kind is float and isinstance(found, int) and not isinstance(found, bool):
        found = float(found)
    if kind in (int, float, bool) and type(found) is not kind:
        raise InputError(f"--set {said}: {text!r} must be {'true or false' if kind is bool else 'a number'}")
    return found
