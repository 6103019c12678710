"""Work to measure by: images of the embedded data set, tables that name them over and over, and bundles."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from geo_ray.cells.partition_file import read_partition, write_partition
from geo_ray.datasets import earth
from geo_ray.index.features import encode_features
from geo_ray.index.index_folder import PrototypeIndex, read_index, write_index
from geo_ray.models.bundle import CALIBRATION, CELLS, HEAD, WEIGHTS, open_bundle, write_manifest
from geo_ray.models.clip import TOWER, create_tower
from geo_ray.models.encoder_spec import EncoderSpec

NUM_FILES = 1000  # distinct images; they are read over and over


def write_crops(folder: Path) -> list[str]:
    """The data set's JPEG crops of 128 x 128."""
    latlon = earth.locations()[:: len(earth.locations()) // NUM_FILES][:NUM_FILES]
    return _write(folder, earth.render(earth.jittered_views(latlon, np.random.default_rng(0))))


def write_photos(folder: Path) -> list[str]:
    """JPEG images of 640 x 480, the size of a small photo: crops of the Earth, as it is decoding that matters."""
    latlon = earth.locations()[:: len(earth.locations()) // 200][:200]
    views = earth.jittered_views(latlon, np.random.default_rng(0))
    parts = [earth.render(views.take(slice(start, start + 20)), 640)[:, :480] for start in range(0, 200, 20)]
    return _write(folder, np.concatenate(parts))


def _write(folder: Path, pixels: np.ndarray) -> list[str]:
    folder.mkdir()
    for number, image in enumerate(pixels):
        (folder / f"{number:04d}.jpg").write_bytes(earth.encode_jpeg(image))
    return sorted(str(path) for path in folder.iterdir())


def write_vit_bundle(folder: Path, name: str = "ViT-S-32", num_features: int = 384, image_size: int = 224) -> str:
    """A bundle of a tower of open_clip's with random weights and earth-tiny's cells: right in cost, not in answers."""
    tiny = open_bundle("earth-tiny")
    encoder = EncoderSpec(
        architecture=f"open_clip:{name}", image_size=image_size, num_features=num_features, micro_batch=32
    )
    folder.mkdir()
    tower = create_tower(encoder).state_dict()
    save_file({TOWER + name: value.contiguous() for name, value in tower.items()}, folder / WEIGHTS)
    num_cells = len(read_partition(tiny.path(CELLS)))
    head = {"weight": torch.randn(num_cells, encoder.num_features), "bias": torch.zeros(num_cells)}
    save_file(head, folder / HEAD)
    write_partition(read_partition(tiny.path(CELLS)), folder / CELLS)
    (folder / CALIBRATION).write_text(tiny.path(CALIBRATION).read_text())
    write_index(_random_features(read_index(tiny.path("index")), encoder.num_features), folder / "index")
    write_manifest(
        folder, kind="cells", description="random weights, for timing", licence="", attribution="", encoder=encoder,
        parameters=tiny.refinement, provenance={},
    )  # fmt: skip
    return str(folder)


def _random_features(index: PrototypeIndex, num_features: int) -> PrototypeIndex:
    rng = np.random.default_rng(0)
    prototypes, members = (
        encode_features(rng.normal(size=(n, num_features)).astype(np.float32))
        for n in (len(index.prototype_latlon), len(index.member_latlon))
    )
    changed = {"prototype_features": prototypes, "member_features": members, "encoder_fingerprint": ""}
    return PrototypeIndex(**vars(index) | changed)


def write_table(files: list[str], num_images: int, table: Path) -> Path:
    """A table that names the files over and over."""
    rows = (f"{number},{files[number % len(files)]}\n" for number in range(num_images))
    table.write_text("id,path\n" + "".join(rows))
    return table
