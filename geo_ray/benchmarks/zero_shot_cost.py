"""What zero-shot answers cost beside encoding: building the captions' features, probing, and searching a gallery.

    python jobs/benchmark_zero_shot.py --json out/zero_shot.json

CLIP ViT-B/32 and GeoCLIP's ViT-L/14, with random weights: time doesn't depend on them. Encoding is the image tower
alone, without decoding, on as many threads as there are cores.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float32
from safetensors.torch import save_file

from geo_ray.atlas.label_lists import streetclip_labels, tree_labels
from geo_ray.atlas.labels import Labels
from geo_ray.benchmarks.rows import write_json
from geo_ray.index.gallery import Gallery, GallerySearch
from geo_ray.index.probe import Probe, Probing
from geo_ray.models.bundle import LABEL_FEATURES, open_bundle
from geo_ray.models.clip import ImageEncoder, choose_dtype, create_tower
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.geoclip import read_geoclip
from geo_ray.models.published import Import, import_bundle

BATCH = 256


def timed(run: Callable[[], Any]) -> float:
    """Seconds of a call, the least of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def write_clip(folder: Path, name: str) -> Path:
    """One of open_clip's models with random weights, in the form of its hub."""
    folder.mkdir(parents=True)
    config = open_clip.get_model_config(name)
    save_file(open_clip.create_model(name, load_weights=False).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return folder


def images_per_second(name: str, num_images: int) -> float:
    """How fast an image tower of open_clip encodes pixels."""
    config = open_clip.get_model_config(name)
    side = config["vision_cfg"]["image_size"]
    spec = EncoderSpec(architecture="clip", clip=config | {"quick_gelu": False}, image_size=side,
                       num_features=config["embed_dim"])  # fmt: skip
    encoder = ImageEncoder(create_tower(spec), spec, "cpu", choose_dtype("auto", "cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (num_images, side, side, 3), np.uint8)
    encoder(pixels[: spec.micro_batch])
    return num_images / timed(lambda: encoder(pixels))


def captions(root: Path) -> list[dict[str, Any]]:
    """Importing a bundle with all captions, and again, when their features are in the cache."""
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    source = write_clip(root / "vit-b-32", "ViT-B-32")
    rows = []
    for name in ("captions", "captions again"):
        start = time.perf_counter()
        output = root / name
        import_bundle(Import(kind="openclip", source=str(source)), output, say=lambda text: None)
        seconds = time.perf_counter() - start
        num_labels = len(np.load(open_bundle(str(output)).path(LABEL_FEATURES), mmap_mode="r"))
        rows.append({"name": f"import ViT-B-32 with {num_labels:,} {name}", "seconds": round(seconds, 2)})
    return rows


def probing(encode_per_second: float, num_images: int) -> list[dict[str, Any]]:
    """Probing with random features, in batches as the graph's."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(num_images, 512)).astype(np.float32)
    rows = []
    for method in ("greedy", "beam", "tree"):
        labels: Labels = tree_labels() if method == "tree" else streetclip_labels()
        features = rng.normal(size=(len(labels.ids), 512)).astype(np.float32)
        probe = Probe(labels.parents, labels.latlon, features, Probing(method=method))
        seconds = timed(partial(_probe_all, probe, images))
        rows.append(_beside(f"probing {num_images:,} images, {method}", seconds, num_images / encode_per_second))
    return rows


def _probe_all(probe: Probe, images: Float32[np.ndarray, "N D"]) -> None:
    for start in range(0, len(images), BATCH):
        probe(images[start : start + BATCH])


def searching(encode_per_second: float) -> list[dict[str, Any]]:
    """The nearest of GeoCLIP's 100,000 places, by random features of length one."""
    rng = np.random.default_rng(0)

    def unit(count: int) -> Float32[np.ndarray, "n 512"]:
        features = rng.normal(size=(count, 512)).astype(np.float32)
        return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))

    published = read_geoclip()
    gallery = Gallery(features=unit(len(published.gallery_latlon)), latlon=published.gallery_latlon)
    parameters = GallerySearch(logit_scale=published.logit_scale)
    images = unit(BATCH)
    seconds = timed(lambda: gallery.search(images, parameters))
    return [_beside(f"searching 100,000 places for {BATCH} images", seconds, BATCH / encode_per_second)]


def _beside(name: str, seconds: float, encode_seconds: float) -> dict[str, Any]:
    return {"name": name, "seconds": round(seconds, 3), "share_of_encoding": round(seconds / encode_seconds, 4)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=1000, help="images to probe (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that weights are random
    with tempfile.TemporaryDirectory() as temporary:
        rows = captions(Path(temporary))
    for name, count, measure in (("ViT-B-32", 256, probing), ("ViT-L-14", 16, searching)):
        rate = images_per_second(name, count)
        rows.append({"name": f"encoding by {name}", "images_per_second": round(rate, 1)})
        rows += probing(rate, options.num_images) if measure is probing else searching(rate)
    for row in rows:
        print(
            ", ".join(f"{value:,}" if isinstance(value, int | float) else value for value in row.values()), flush=True
        )
    write_json(options.json, {"rows": rows})
