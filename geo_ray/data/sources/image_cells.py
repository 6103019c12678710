"""Images in the cells of a table, in the types that people store them as."""

import base64
import binascii
import re
from typing import Any, Literal

import pyarrow as pa
import pyarrow.types as pt

# As bytes; in a field ``bytes`` of a struct, as Hugging Face has them; as a list of numbers; as a list of any of these,
# which are views of one item; as base64 or a data: URI in a text.
Form = Literal["bytes", "struct", "numbers", "several", "text"]

DATA_URI = re.compile(r"data:[^,;]*(;[^,;]*)*;base64,", re.I)
BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}\s*")
# How base64 begins of what JPEG, PNG, GIF, BMP, TIFF, WebP, HEIC and AVIF, and JPEG 2000 begin with.
BASE64_STARTS = ("/9j/", "_9j_", "iVBORw0KGgo", "R0lGOD", "Qk", "SUkqA", "TU0AK", "UklGR", "AAAA")


def form_of(kind: pa.DataType) -> Form | None:
    """How a column of this type may hold images; None where it can't. Texts are judged by what they say."""
    kind = _plain(kind)
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind):
        return "bytes"
    if pt.is_struct(kind):
        index = kind.get_field_index("bytes")
        return "struct" if index >= 0 and form_of(kind.field(index).type) in ("bytes", "numbers") else None
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind) or pt.is_list_view(kind):
        if pt.is_uint8(kind.value_type) or pt.is_int8(kind.value_type):
            return "numbers"
        return "several" if form_of(kind.value_type) in ("bytes", "struct", "numbers") else None
    return None


def _plain(kind: pa.DataType) -> pa.DataType:
    """What a type that is only another way to store something stores."""
    while pt.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        kind = kind.value_type if pt.is_dictionary(kind) else kind.storage_type
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's type is text."""
    kind = _plain(kind)
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def says_image(text: str) -> bool:
    """Whether a text is an image in base64, also as a data: URI, and not a path or a URL."""
    if DATA_URI.match(text[:200]):
        return True
    return len(text) > 200 and text.startswith(BASE64_STARTS) and BASE64.fullmatch(text[:2000]) is not None


def images_in(value: Any) -> tuple[bytes | None, ...]:
    """The images in a cell, one but for lists of them; None for one that isn't there or can't be unpacked."""
    if isinstance(value, list) and not (value and isinstance(value[0], int)):
        return tuple(_image(one) for one in value) or (None,)
    return (_image(value),)


def _image(value: Any) -> bytes | None:
    if isinstance(value, dict):
        return _image(value.get("bytes"))
    if isinstance(value, str):
        return _unpacked(value)
    if isinstance(value, list):
        return bytes(number & 0xFF for number in value if number is not None) or None
    return value if isinstance(value, bytes) else None


def _unpacked(text: str) -> bytes | None:
    text = DATA_URI.sub("", text, count=1)
    letters = re.sub(r"\s", "", text).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None
