"""Bytes of tables as text, in the encodings that spreadsheets write."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FALLBACK = "cp1252-where-it-is-not-utf8"  # Excel's "CSV" of western Europe; Latin-1 but for some quotes
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
         codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}  # fmt: skip
SAMPLE_BYTES = 4096


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    """The letter that a byte which is no UTF-8 stands for."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start : error.start + 1]
    return byte.decode("cp1252", "replace").replace("\ufffd", byte.decode("latin-1")), error.start + 1


codecs.register_error(FALLBACK, _as_cp1252)


def encoding_of(head: bytes) -> str:
    """The encoding of a text by its mark, or by where UTF-16 without one has its zeros; otherwise UTF-8."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    if len(head) >= 4 and head[1::2].count(0) > len(head) // 3:
        return "utf-16-le"
    if len(head) >= 4 and head[::2].count(0) > len(head) // 3:
        return "utf-16-be"
    return "utf-8"


@contextmanager
def as_text(file: Any) -> Iterator[io.TextIOBase]:
    """The text of an open binary file, its line ends as they are; old Macs' single returns become line ends.

    A byte that is no UTF-8 is read as cp1252's letter, so one odd name spoils nothing.
    """
    buffered = io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file
    head = buffered.read(SAMPLE_BYTES)
    whole = io.BufferedReader(_Joined(head, buffered), SAMPLE_BYTES * 16)
    encoding = encoding_of(head)
    sample = head.decode(encoding, "ignore")
    newline = None if "\r" in sample and "\n" not in sample else ""
    errors = FALLBACK if encoding.startswith("utf-8") else "replace"
    with io.TextIOWrapper(whole, encoding, errors, newline=newline) as text:
        yield text


class _Joined(io.RawIOBase):
    """What was read already, and then the rest."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._head[: len(buffer)] if self._head else self._rest.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)
