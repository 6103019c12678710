"""From a training table with addresses to a bundle that finds them: train, embed, calibrate, evaluate."""

import dataclasses
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from geo_ray.atlas.addresses import Addresses, address_ids, read_addresses
from geo_ray.errors import InputError
from geo_ray.evaluation.addresses import AddressAnswers, address_metrics
from geo_ray.evaluation.bootstrap import groups_by_column
from geo_ray.evaluation.calibration import fit_calibration
from geo_ray.evaluation.known_answers import known_answers
from geo_ray.geo.sphere import spherical_mean
from geo_ray.index.gallery import read_gallery
from geo_ray.index.refine import feature_distance
from geo_ray.models.address_bundle import write_address_bundle
from geo_ray.models.bundle import CALIBRATION, GALLERY, Bundle, open_bundle
from geo_ray.models.bundle_writing import Words, copy_bundle
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.naming import open_naming
from geo_ray.models.tokenizer import tokenize
from geo_ray.remote_files import filesystem
from geo_ray.tables.training import ADDRESSES, SPLITS
from geo_ray.train.address_task import COLUMNS, AddressConfig, AddressWork
from geo_ray.train.cells_bundle import clear
from geo_ray.train.chain import Place, trained_clip
from geo_ray.train.embedding import embed_table, read_features
from geo_ray.train.table_reading import open_table, read_rows

KNOWN = ("image_id", "latitude", "longitude", "address", "place", "features")
# The forms of AddressCLIP's project page and files.
FORM = re.compile(
    r"located in (?:the )?(?P<hood>.+?), specifically on (?:a section of )?(?P<street>.+?)"
    r"(?: lying between (?P<a>.+?) and (?P<b>.+?)| (?:that )?near (?P<near>.+?))?\.?$"
)


def run_addresses(config: AddressConfig, output: Path, place: Place) -> Path:
    """Make the bundle ``output``/bundle of a table; returns its folder. Needs a connected Ray."""
    say, bundle = place.say, output / "bundle"
    addresses = table_addresses(place.table)
    check_ready(config, place.table, addresses)
    say("1 of 4: training on addresses")
    model = trained_clip(AddressWork(config=config, table=place.table), output / "clip", place, "addresses")
    words = Words(
        description=f"addresses after AddressCLIP, trained on {Path(place.table).name}",
        licence="that of the photos, of the checkpoint and of the streets",
        attribution="Streets: as named by whoever built the table; of OpenStreetMap, (c) its contributors, ODbL.",
        provenance={"config": json.loads(json.dumps(dataclasses.asdict(config))), "table": place.table},
    )
    plain = output / "uncalibrated"
    if not (plain / "bundle.json").exists():
        say("2 of 4: candidate addresses")
        write_address_bundle(clear(plain), read_checkpoint(model), addresses, words, config.num_candidates)
    say("3 of 4: embedding")
    features = str(output / "features")
    embed_table(place.table, str(plain.resolve()), features, num_workers=place.scale.num_workers,
                num_threads=place.scale.threads_per_worker)  # fmt: skip
    say("4 of 4: calibration, and evaluation on the test images")
    if not (bundle / "bundle.json").exists():
        calibrate_addresses(open_bundle(str(plain.resolve())), rows_of(features, "validation"), clear(bundle))
    found = address_metrics(answers_to(open_bundle(str(bundle.resolve())), rows_of(features, "test")))
    (output / "metrics.json").write_text(json.dumps(found, indent=1) + "\n")
    shown = ", ".join(f"{name.upper().replace('_', '-')} {found['by_place'][name]:.1%}" for name in SHOWN)
    say(f"by place: {shown}, of {found['num_images']:,} images in {found['by_place']['num_places']:,} places")
    return bundle


def check_ready(config: AddressConfig, table: str, addresses: Addresses) -> None:
    """Raise ``InputError`` at once for what would end the run after its training.

    That are splits without images, and addresses that are longer than the text tower reads.
    """
    for split in SPLITS:
        open_table(table, split, COLUMNS)
    checkpoint = AddressWork(config=config, table=table).read()
    length = int(checkpoint.config["text_cfg"].get("context_length", 77))
    tokenize(addresses.texts.tolist(), length, checkpoint.preprocessing)


SHOWN = ("ssa_1", "ssa_5", "sa_1", "sa_5")


def table_addresses(table: str) -> Addresses:
    """The candidate addresses of a table: those it was built with, and its images' other ones, by their texts."""
    fs, root = filesystem(table)
    known = None
    if fs.exists(f"{root}/{ADDRESSES}"):
        with fs.open(f"{root}/{ADDRESSES}", "rb") as file:
            known = read_addresses(f"{table}/{ADDRESSES}", file)
    held = set() if known is None else set(known.texts)
    texts: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for split in SPLITS:
        try:
            opened = open_table(table, split)
        except InputError:
            continue
        rows = read_rows(opened, ("address", "latitude", "longitude"))
        for text, *at in zip(*(rows[name].to_pylist() for name in ("address", "latitude", "longitude")), strict=True):
            if text and text not in held:
                texts[text].append((at[0], at[1]))
    if known is not None and not texts:
        return known
    if not texts:
        raise InputError(f"no image of {table} has an address; build the table with --addresses or --annotations")
    others = addresses_of_texts({text: np.array(places) for text, places in sorted(texts.items())})
    return others if known is None else known.and_others(others)


def addresses_of_texts(places: dict[str, np.ndarray]) -> Addresses:
    """Addresses of texts, each in the middle of its images (degrees); texts in other forms have no parts."""
    matches = [FORM.match(text) for text in places]
    parts = [match.groupdict() if match else {} for match in matches]
    streets = np.array([part.get("street") or "" for part in parts], dtype=object)
    return Addresses(
        ids=address_ids(np.where(streets == "", np.array(list(places), dtype=object), streets)),
        texts=np.array(list(places), dtype=object),
        streets=streets,
        neighbourhoods=np.array([part.get("hood") or "" for part in parts], dtype=object),
        crossings=[tuple(part[n] for n in ("a", "b", "near") if part.get(n)) for part in parts],
        latlon=np.stack([spherical_mean(latlon) for latlon in places.values()]),
        num_points=np.array([len(latlon) for latlon in places.values()], np.int64),
        lines=np.full(len(places), None, dtype=object),
    )


def rows_of(features: str, split: str) -> pa.Table:
    """The images of a split of a table with features, by id; ``InputError`` where there are none."""
    parts = [part.select(list(KNOWN)) for part in read_features(features, split)]
    if not parts:
        raise InputError(f"{features} has no images of the split {split}; build the table with more")
    return pa.concat_tables(parts).sort_by("image_id")


def _located(bundle: Bundle, rows: pa.Table) -> dict[str, np.ndarray]:
    features = rows["features"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    gallery = read_gallery(bundle.path(GALLERY))
    found = gallery.search(features, bundle.gallery_search)
    near = feature_distance(features, gallery.features[found.cells[:, 0]])
    return vars(found) | {"feature_distance": near, "spread_km": found.spread_km}


def _latlon(rows: pa.Table) -> np.ndarray:
    return np.stack([rows[name].to_numpy() for name in ("latitude", "longitude")], axis=1)


def calibrate_addresses(bundle: Bundle, rows: pa.Table, output: Path) -> None:
    """Write a copy of a bundle that is calibrated on images of known places, of which each address has one vote."""
    groups = groups_by_column(np.array(rows["address"].to_pylist(), dtype=object), "address")
    known = known_answers(open_naming(bundle), _located(bundle, rows), _latlon(rows), groups)
    text = json.dumps(dataclasses.asdict(fit_calibration(known)), indent=1) + "\n"
    provenance: dict[str, Any] = {"calibrated_on": {"images": len(rows), "places": groups.count}}
    copy_bundle(bundle, output, bundle.parameters, {CALIBRATION: text}, provenance)


def answers_to(bundle: Bundle, rows: pa.Table) -> AddressAnswers:
    """What a bundle answers to images with features, beside their true addresses."""
    naming = open_naming(bundle)
    located = _located(bundle, rows)
    return AddressAnswers.of(
        naming.addresses,  # type: ignore[attr-defined]
        located["cells"],
        _latlon(rows),
        np.array(rows["address"].to_pylist(), dtype=object),
        groups_by_column(np.array(rows["place"].to_pylist(), dtype=object), "place"),
    )
