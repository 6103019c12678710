"""JPEG decoding on a GPU by nvJPEG, where the bulk of photos is decoded; what the card can't do is left to the CPU.

Images are decoded whole and scaled on the card by antialiased bicubic interpolation, where the CPU scales JPEG while it
decodes: pixels differ a little (``jobs/benchmark.py decoders``), so a run keeps to one of the two.
"""

import io
import itertools
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch.nn import functional
from torchvision.io import ImageReadMode, decode_jpeg

from geo_ray.errors import BundleError
from geo_ray.models.jpeg_data import END, JpegData, jpeg_data
from geo_ray.models.picture import orientation_of
from geo_ray.models.preprocess import MAX_BYTES, UPRIGHT

MAX_PIXELS = 2**26  # decoded at a time: 200 MB, and 800 MB while they are scaled
MAX_SCALE = 40  # of a square's side to its scaled one: of more, CUDA's filter doesn't fit a multiprocessor
ADOBE = b"\xff\xee"  # the segment by which colours may be other than usual
USUAL_COMPONENTS = (b"\1", b"\1\2\3", b"\0\1\2")  # grey, and luma with chroma: other numbers may mean other colours


class DeviceDecoder:
    """Decodes JPEGs of at most ``max_pixels`` to squares of ``size`` on a device of torch.

    Raises ``BundleError`` where torchvision can't decode on this device.
    """

    def __init__(self, size: int, max_pixels: int, device: str) -> None:
        self._size, self._max_pixels, self._device = size, min(max_pixels, MAX_PIXELS), device
        self._streams = threading.local()
        try:
            self._decode([_tiny()])
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise BundleError(f"torchvision can't decode JPEG on {device} ({why}); use --decode cpu") from error

    @torch.inference_mode()
    def __call__(self, contents: Sequence[bytes]) -> list[UInt8[np.ndarray, "size size 3"] | None]:
        """Upright squares as of ``decode_image``, None for what is to be decoded on the CPU, or can't be at all."""
        with self._stream():
            return self._answers(contents)

    def _stream(self) -> AbstractContextManager[Any]:
        """A stream of this thread's own, whose memory no other stream writes to.

        nvJPEG writes by a stream of its own to what this one has freed, which is safe when nothing is under way on it.
        """
        if self._device != "cuda":
            return nullcontext()
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        context: AbstractContextManager[Any] = torch.cuda.stream(self._streams.own)
        return context

    def _answers(self, contents: Sequence[bytes]) -> list[UInt8[np.ndarray, "size size 3"] | None]:
        answers: list[UInt8[np.ndarray, "size size 3"] | None] = [None] * len(contents)
        wanted = [(row, found) for row, content in enumerate(contents) if (found := self._suitable(content))]
        for batch in _batches(wanted):
            pixels = self._decoded([found for _, found in batch])
            for (row, found), square in zip(batch, self._squares(pixels), strict=True):
                answers[row] = None if square is None else _upright(square, found.exif)
        return answers

    def _suitable(self, content: bytes) -> JpegData | None:
        """What decides the pixels of a JPEG of the usual kind: whole, in 8 bits, of one scan, grey or with chroma."""
        if len(content) > MAX_BYTES or not content.rstrip(b"\0").endswith(END):
            return None
        found = jpeg_data(content)
        if found is None or found.frame.held or found.components not in USUAL_COMPONENTS:
            return None
        width, height = found.frame.width, found.frame.height
        fits = 0 < width * height <= self._max_pixels and min(width, height) <= MAX_SCALE * self._size
        return found if fits and ADOBE not in found.content[: found.start] else None

    def _decoded(self, batch: list[JpegData]) -> list[torch.Tensor | None]:
        """Each image's pixels (3, H, W) on the device; one that can't be decoded costs the others another try."""
        files = [_bytes(found.content) for found in batch]
        try:
            return self._decode(files)
        except torch.AcceleratorError:
            os._exit(1)  # nothing works on the card from now on: who comes after this process finds the image to blame
        except RuntimeError:
            if len(batch) == 1:
                return [None]
            return [one for found in batch for one in self._decoded([found])]

    def _decode(self, files: list[torch.Tensor]) -> list[torch.Tensor | None]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)  # of torchcodec
            return list(decode_jpeg(files, mode=ImageReadMode.RGB, device=self._device))

    def _squares(self, images: list[torch.Tensor | None]) -> list[UInt8[np.ndarray, "size size 3"] | None]:
        """The centres of images, scaled; those of one size together."""
        answers: list[UInt8[np.ndarray, "size size 3"] | None] = [None] * len(images)
        given = [(row, image) for row, image in enumerate(images) if image is not None]
        by_size = sorted(given, key=lambda item: tuple(item[1].shape))
        for _, group in itertools.groupby(by_size, key=lambda item: tuple(item[1].shape)):
            rows, same = zip(*group, strict=True)
            try:
                squares = self._scaled(torch.stack([_centre(image) for image in same]))
            except torch.OutOfMemoryError:  # beside an encoder that has taken what there was
                continue
            for row, square in zip(rows, squares, strict=True):
                answers[row] = square
        return answers

    def _scaled(self, squares: torch.Tensor) -> UInt8[np.ndarray, "n size size 3"]:
        size = (self._size, self._size)
        scaled = functional.interpolate(squares.float(), size=size, mode="bicubic", antialias=True)
        return np.asarray(scaled.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy())


def _batches(wanted: list[tuple[int, JpegData]]) -> Iterator[list[tuple[int, JpegData]]]:
    """The images in pieces of at most ``MAX_PIXELS`` together, one at least."""
    batch, held = list[tuple[int, JpegData]](), 0
    for row, found in wanted:
        num_pixels = found.frame.width * found.frame.height
        if batch and held + num_pixels > MAX_PIXELS:
            yield batch
            batch, held = [], 0
        batch.append((row, found))
        held += num_pixels
    if batch:
        yield batch


def _centre(image: torch.Tensor) -> torch.Tensor:
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def _upright(square: UInt8[np.ndarray, "size size 3"], exif: bytes) -> UInt8[np.ndarray, "size size 3"]:
    """The square turned as its EXIF says."""
    turn = UPRIGHT.get(orientation_of(lambda: _loaded(exif))) if exif else None
    return square if turn is None else np.asarray(Image.fromarray(square).transpose(turn))


def _loaded(exif: bytes) -> Image.Exif:
    held = Image.Exif()
    held.load(exif)
    return held


def _tiny() -> torch.Tensor:
    """A JPEG of eight by eight pixels."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return _bytes(file.getvalue())


def _bytes(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
