"""How many planted near-duplicates are found, and how many of those found are planted.

    python jobs/benchmark_leaks.py

Satellite crops 200 km wide of places at least 30 km apart, half of them for training, half for the test, among which
some pictures of training were hidden: scaled, compressed, lightened, cut a little and turned a little, each at random.
earth-tiny's features and hashes of both.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, UInt8
from PIL import Image, ImageEnhance
from scipy.spatial import cKDTree

from geo_ray.datasets import earth
from geo_ray.evaluation.leaks import Images, LeakRules, find_duplicates
from geo_ray.geo.sphere import EARTH_RADIUS_KM, unit_vectors
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.columns import source_batch
from geo_ray.pipeline.graph import Graph, embedding_graph
from geo_ray.pipeline.local import run_local

AT_ONCE = 250
APART_KM, WIDTH_KM = 30.0, 200.0


def changed(pixels: UInt8[np.ndarray, "side side 3"], rng: np.random.Generator) -> bytes:
    """Nearly the same picture as JPEG: what people do to photos before they publish them a second time."""
    picture = Image.fromarray(pixels)
    cut = int(rng.integers(0, round(0.03 * picture.width) + 1))
    picture = picture.rotate(float(rng.uniform(-1, 1)), Image.Resampling.BICUBIC)
    picture = picture.crop((cut, cut, picture.width - cut, picture.height - cut))
    side = round(picture.width * float(rng.uniform(0.5, 1.5)))
    picture = ImageEnhance.Brightness(picture.resize((side, side))).enhance(float(rng.uniform(0.85, 1.15)))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(50, 95)))
    return buffer.getvalue()


def planted(num_images: int, num_planted: int, seed: int = 0) -> tuple[Images, Images, np.ndarray]:
    """Test and training images with features and hashes, and which test images are planted."""
    rng = np.random.default_rng(seed)
    places = apart(rng.permutation(earth.locations()), APART_KM)
    train, test = places[:num_images], places[num_images : 2 * num_images]
    pixels = [one for part in _rendered(train, rng) for one in part]
    contents = [earth.encode_jpeg(one) for part in _rendered(test, rng) for one in part]
    is_planted = np.zeros(len(contents), bool)
    is_planted[rng.permutation(len(contents))[:num_planted]] = True
    for row, source in zip(np.flatnonzero(is_planted), rng.permutation(len(pixels))[:num_planted], strict=True):
        contents[row] = changed(pixels[source], rng)
    graph = embedding_graph(open_bundle("earth-tiny"), with_hashes=True)
    return (
        embedded(graph, contents, test),
        embedded(graph, [earth.encode_jpeg(one) for one in pixels], train),
        is_planted,
    )


def apart(places: Float64[np.ndarray, "n 2"], km: float) -> Float64[np.ndarray, "m 2"]:
    """The places in their order without those that are nearer than this to one before them."""
    tree = cKDTree(unit_vectors(places))
    kept = np.full(len(places), True)
    for row, near in enumerate(tree.query_ball_point(tree.data, 2 * np.sin(km / EARTH_RADIUS_KM / 2))):
        if kept[row]:
            later = np.array(near)
            kept[later[later > row]] = False
    return np.asarray(places[kept])


def _rendered(latlon: Float64[np.ndarray, "n 2"], rng: np.random.Generator) -> Iterator[np.ndarray]:
    views = earth.jittered_views(latlon, rng)
    views = replace(views, width_km=views.width_km * (WIDTH_KM / earth.CROP_KM))
    for start in range(0, len(latlon), AT_ONCE):
        yield earth.render(views.take(slice(start, start + AT_ONCE)))


def embedded(graph: Graph, contents: list[bytes], latlon: Float64[np.ndarray, "n 2"]) -> Images:
    """Features and hashes of these images."""
    names = [str(row) for row in range(len(contents))]
    starts = range(0, len(names), AT_ONCE)
    parts = ((names[s : s + AT_ONCE], contents[s : s + AT_ONCE]) for s in starts)
    batches = [source_batch(some, some, list(data), [""] * len(some)) for some, data in parts]
    answers = list(run_local(graph, batches))
    return Images(
        ids=pa.array(names),
        latlon=latlon,
        features=np.concatenate([answer["image_features"] for answer in answers]),
        hashes=np.concatenate([answer["phash"] for answer in answers]),
    )


def found_of(test: Images, train: Images, is_planted: np.ndarray, rules: LeakRules) -> dict[str, float]:
    """Recall and precision of the planted images."""
    found = find_duplicates(test, train, rules) >= 0
    both = float((found & is_planted).sum())
    return {
        "recall": both / max(1, is_planted.sum()),
        "precision": both / max(1, found.sum()),
        "found": float(found.sum()),
    }


def main() -> None:
    """Print what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=5000, help="of each side (default: %(default)s)")
    parser.add_argument("--num-planted", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    test, train, is_planted = planted(options.num_images, options.num_planted, options.seed)
    parts = {
        "features and hashes": (test, train),
        "hashes alone": (replace(test, features=None), replace(train, features=None)),
        "features alone": (replace(test, hashes=None), replace(train, hashes=None)),
    }
    for name, (some, others) in parts.items():
        row = found_of(some, others, is_planted, LeakRules())
        print(f"{name}: " + ", ".join(f"{what} {value:.3f}" for what, value in row.items()), flush=True)
