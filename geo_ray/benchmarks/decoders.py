"""What JPEG decoders cost beside each other, and what it changes that a GPU's decodes whole images.

All make the same: the centre of a photo as a square, by one thread. ``decode_image`` is what runs use on CPUs. A GPU's
decoder is measured where there is one; on a CPU torchvision stands for it, which decodes whole images too.
"""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from geo_ray.models.bundle import open_bundle
from geo_ray.models.device_decode import DeviceDecoder
from geo_ray.models.preprocess import decode_image
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import embedding_graph, graph_of
from geo_ray.pipeline.stage import Runtime

PHOTOS = ((640, 480), (1600, 1200))
SIDES = (224, 336)
QUALITY = 88  # 80 kB at 640 x 480, 320 kB at 1600 x 1200
MAX_PIXELS = 10**8
ROUNDS = 3  # of which the fastest counts

Decoder = Callable[[list[bytes], int], list[np.ndarray]]


def decoder_rows(photos: list[str]) -> list[dict[str, Any]]:
    """A row for each size of photos, side of squares and decoder; then one on what answers each size gets."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return list(_rows([Image.open(path).convert("RGB") for path in photos]))
    finally:
        torch.set_num_threads(threads)


def _rows(images: list[Image.Image]) -> Iterator[dict[str, Any]]:
    sizes = {f"{width} x {height}": [_jpeg(image, (width, height)) for image in images] for width, height in PHOTOS}
    for size, contents in sizes.items():
        for side in SIDES:
            expected = _by_decode_image(contents, side)
            for name, decoder in decoders().items():
                seconds, squares = _timed(decoder, contents, side)
                differences = [np.abs(a.astype(int) - b).mean() for a, b in zip(squares, expected, strict=True)]
                rate = round(len(contents) / seconds, 1)
                yield {
                    "photos": size, "side": side, "decoder": name, "images_per_second": rate,
                    "mean_difference": round(float(np.mean(differences)), 3),
                }  # fmt: skip
    for size, contents in sizes.items():
        yield {"photos": size, "num_photos": len(contents), "bundle": "earth-tiny"} | _changes(contents)


def decoders() -> dict[str, Decoder]:
    """What can be had here, by name."""
    found: dict[str, Decoder] = {
        "decode_image": _by_decode_image,
        "Pillow, scaled by torch": _by_torch_scaling,
        "torchvision, whole": lambda contents, side: _by_device(contents, side, "cpu"),
    }
    try:
        import simplejpeg
    except ImportError:  # of no other use here
        return found | _on_gpu()
    return found | {"simplejpeg": lambda contents, side: _by_simplejpeg(simplejpeg, contents, side)} | _on_gpu()


def _on_gpu() -> dict[str, Decoder]:
    return {"nvJPEG": lambda contents, side: _by_device(contents, side, "cuda")} if torch.cuda.is_available() else {}


def _by_decode_image(contents: list[bytes], side: int) -> list[np.ndarray]:
    return [decode_image(content, side, MAX_PIXELS) for content in contents]


def _by_device(contents: list[bytes], side: int, device: str) -> list[np.ndarray]:
    squares = DeviceDecoder(side, MAX_PIXELS, device)(contents)
    return [square for square in squares if square is not None]


def _by_simplejpeg(simplejpeg: Any, contents: list[bytes], side: int) -> list[np.ndarray]:
    """Scaled while decoding, by eighths where Pillow has halves."""
    decoded = (
        simplejpeg.decode_jpeg(content, "RGB", min_height=side, min_width=side, min_factor=1) for content in contents
    )
    return [_square(Image.fromarray(pixels), side) for pixels in decoded]


def _square(image: Image.Image, side: int) -> np.ndarray:
    short = min(image.size)
    left, top = ((length - short) / 2 for length in image.size)
    box = (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def _by_torch_scaling(contents: list[bytes], side: int) -> list[np.ndarray]:
    squares = []
    for content in contents:
        image = Image.open(io.BytesIO(content))
        image.draft("RGB", (side, side))
        short = min(image.size)
        left, top = ((length - short) // 2 for length in image.size)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None, :, top : top + short, left : left + short]
        scaled = functional.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True)
        squares.append(scaled[0].permute(1, 2, 0).numpy())
    return squares


def _timed(decoder: Decoder, contents: list[bytes], side: int) -> tuple[float, list[np.ndarray]]:
    seconds, squares = float("inf"), list[np.ndarray]()
    for _ in range(ROUNDS):
        start = time.perf_counter()
        squares = decoder(contents, side)
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, squares


def _changes(contents: list[bytes]) -> dict[str, Any]:
    """How features and answers differ between images decoded as on CPUs and as on GPUs."""
    bundle, device = open_bundle("earth-tiny"), "cuda" if torch.cuda.is_available() else "cpu"
    ids = [str(number) for number in range(len(contents))]
    batch = source_batch(ids, ids, list(contents), [""] * len(contents))
    features, answers = (
        [graph.build(Runtime(decode_device=one))(batch) for one in (None, device)]
        for graph in (embedding_graph(bundle, dtype="float32"), graph_of(bundle, dtype="float32"))
    )
    here, there = (_unit(found["image_features"]) for found in features)
    cosine = (here * there).sum(axis=1)
    return {
        "cosine_mean": round(float(cosine.mean()), 5),
        "cosine_smallest": round(float(cosine.min()), 5),
        "cells_changed": int((answers[0]["cell_id"] != answers[1]["cell_id"]).sum()),
    }


def _unit(features: np.ndarray) -> np.ndarray:
    exact = features.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True))


def _jpeg(image: Image.Image, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    image.resize(size).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def photos_in(folder: Path) -> list[str]:
    """The JPEG files below a folder, in order."""
    return sorted(str(path) for path in folder.rglob("*.jp*g"))
