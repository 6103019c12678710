"""What is measured of addresses: losses, other words for candidates, and searching many of them.

``losses``: AddressCLIP's ablation (arXiv 2407.08156, table 4) on map tiles, over seeds, beside the same towers before
training. ``words``: how often the true street, neighbourhood or corner is among the first five of candidates in other
words than those learned. ``search``: time an image among as many candidates as a large city has.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geo_ray.atlas.addresses import Addresses, coarser, read_addresses
from geo_ray.benchmarks.bare_loop import Quiet, RowBatches
from geo_ray.benchmarks.rows import write_json
from geo_ray.evaluation.addresses import AddressAnswers, address_metrics
from geo_ray.evaluation.bootstrap import Bootstrap, Groups, Measure, groups_by_column, interval
from geo_ray.geo.sphere import spherical_mean
from geo_ray.index.gallery import Gallery, GallerySearch
from geo_ray.models.address_bundle import query_features
from geo_ray.models.bundle import ADDRESSES, open_bundle
from geo_ray.models.checkpoints import ClipCheckpoint
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.published import encoder_spec
from geo_ray.recipes.street_tiny import fresh_checkpoint, street_tiny
from geo_ray.train.address_chain import rows_of, table_addresses
from geo_ray.train.address_task import COLUMNS, AddressConfig, AddressTask
from geo_ray.train.loop import Worker, run_steps
from geo_ray.train.table_reading import decode_rows, open_table, plain, read_rows

WAYS: dict[str, dict[str, Any]] = {
    "all three losses": {},
    "address and caption": {"geography_weight": 0.0},
    "address and geography": {"caption_weight": 0.0},
    "address alone": {"caption_weight": 0.0, "geography_weight": 0.0},
    "caption alone": {"address_weight": 0.0, "caption_weight": 1.0, "geography_weight": 0.0},
}
OTHERS: dict[str, dict[str, Any]] = {
    "all, geography as quoted": {"geography": "quoted"},
    "all, each image right for its own text alone": {"positives": "own"},
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    actions = parser.add_subparsers(dest="action", required=True)
    losses = actions.add_parser("losses")
    losses.add_argument("table", metavar="TABLE", help="of map tiles, by geo-ray table streets:DIR")
    losses.add_argument("--seeds", type=int, default=3)
    losses.add_argument("--num-steps", type=int, default=300)
    losses.add_argument("--image-size", type=int, default=48, help="tiles are scaled to it (default: %(default)s)")
    losses.add_argument("--others", action="store_true", help="also the quoted form, and positives of their own")
    words = actions.add_parser("words")
    words.add_argument("bundle", metavar="BUNDLE")
    words.add_argument("features", metavar="DIR", help="the folder features of the bundle's training")
    search = actions.add_parser("search")
    search.add_argument("--num-candidates", type=int, default=100_000)
    search.add_argument("--num-features", type=int, default=512)
    search.add_argument("--num-images", type=int, default=2048)
    options = parser.parse_args()
    run: Callable[[argparse.Namespace], list[dict[str, Any]]] = {
        "losses": _losses, "words": _words, "search": _search,
    }[options.action]  # fmt: skip
    write_json(options.json, run(options))


def _losses(options: argparse.Namespace) -> list[dict[str, Any]]:
    addresses = table_addresses(options.table)
    checkpoints = [fresh_checkpoint(seed, options.image_size) for seed in range(options.seeds)]
    rows = {split: _in_memory(options.table, split, encoder_spec(checkpoints[0])) for split in ("train", "test")}
    ways = WAYS | (OTHERS if options.others else {})
    found: dict[str, list[AddressAnswers]] = {"before training": [], **{name: [] for name in ways}}
    for seed, checkpoint in enumerate(checkpoints):
        for name, answers in found.items():
            config = _config(options.num_steps if name in ways else 0, seed, ways.get(name, {}))
            start = time.perf_counter()
            answers.append(_trained(config, checkpoint, rows, addresses))
            right = answers[-1].measures()["ssa_1"].values.mean()
            print(f"seed {seed}, {name}: SSA-1 {right:.1%}, {time.perf_counter() - start:.0f} s", flush=True)
    return _table(found)


def _config(num_steps: int, seed: int, changes: dict[str, Any]) -> AddressConfig:
    settings = vars(street_tiny()) | {
        "num_steps": max(1, num_steps), "seed": seed, "learning_rate": 1e-3 if num_steps else 1e-30,
        "log_every": 1000, "validate_every": 0,
    }  # fmt: skip
    return AddressConfig(**(settings | changes))


def _in_memory(table: str, split: str, encoder: EncoderSpec) -> dict[str, np.ndarray]:
    read = read_rows(open_table(table, split), (*COLUMNS, "place", "bytes", "uri", "image_id"))
    pixels = decode_rows(read, encoder)["pixels"][:, 0]
    told = plain(read.select([*COLUMNS, "place", "image_id", "row"]))
    return {name: told[name].to_numpy() for name in told.column_names} | {"pixels": pixels}


def _trained(
    config: AddressConfig, checkpoint: ClipCheckpoint, rows: dict[str, dict[str, np.ndarray]], addresses: Addresses
) -> AddressAnswers:
    """What towers answer to the test tiles after a training."""
    train, test = rows["train"], rows["test"]
    center = spherical_mean(np.stack([train["latitude"], train["longitude"]], axis=1))
    task = AddressTask(config, checkpoint, {}, addresses.texts.tolist(), center)

    def make(epoch: int, chosen: np.ndarray) -> Any:
        return task.batch_of({name: values[chosen] for name, values in train.items()})

    batches = RowBatches(len(train["row"]), config.batch_size, config.seed, make)
    run_steps(Quiet(task), batches, config, Worker(device=torch.device("cpu")))
    images, texts = task.embedded(task.model, test["pixels"])
    order = np.argsort(-(images @ texts.T), axis=1, kind="stable")[:, :5]
    latlon = np.stack([test["latitude"], test["longitude"]], axis=1)
    return AddressAnswers.of(addresses, order, latlon, test["address"], groups_by_column(test["place"], "place"))


def _table(found: dict[str, list[AddressAnswers]]) -> list[dict[str, Any]]:
    """By place over all seeds, and how each way differs from the first."""
    whole, rows = found[next(iter(WAYS))], []
    groups = Groups(numbers=np.tile(whole[0].groups.numbers, len(whole)), described=whole[0].groups.described)
    print(f"{'by place':46}{'SSA-1 %':>8}{'95 %':>14}{'SSA-5 %':>9}{'SA-1 %':>8}{'SA-5 %':>8}  SSA-1 less than all's")
    for name, answers in found.items():
        metrics = address_metrics(_joined(answers, groups))["by_place"]
        difference = None if answers is whole else _difference(whole, answers, groups)
        low, high = (100 * bound for bound in metrics["intervals_95"]["ssa_1"])
        figures = "".join(
            f"{100 * metrics[key]:>{width}.1f}" for key, width in (("ssa_5", 9), ("sa_1", 8), ("sa_5", 8))
        )
        shown = "" if difference is None else "  {:.1f} ({:.1f} to {:.1f})".format(*(100 * v for v in difference))
        print(f"{name:46}{100 * metrics['ssa_1']:>8.1f}{f'{low:.1f} to {high:.1f}':>14}{figures}{shown}", flush=True)
        by_seed = [float(one.measures()["ssa_1"].values.mean()) for one in answers]
        rows.append({"name": name, **metrics, "ssa_1_by_seed": by_seed, "ssa_1_less_than_all": difference})
    return rows


def _joined(answers: Sequence[AddressAnswers], groups: Groups) -> AddressAnswers:
    fields = ("right_address", "right_street", "to_street_m", "to_middle_m")
    joined = {name: np.concatenate([getattr(one, name) for one in answers]) for name in fields}
    return AddressAnswers(groups=groups, **joined)


def _difference(whole: Sequence[AddressAnswers], answers: Sequence[AddressAnswers], groups: Groups) -> list[float]:
    """How much less often the address is right, by place, and the 95 % interval of that."""
    first, second = (_joined(each, groups).right_address[:, 0].astype(np.float64) for each in (whole, answers))
    measure = Measure(values=first - second)
    draws = Bootstrap(groups=groups).replicates({"less": measure}, groups.weights)["less"]
    low, high = interval(draws, groups.count)
    return [float(measure.estimate(groups.weights)), float(low), float(high)]


def _words(options: argparse.Namespace) -> list[dict[str, Any]]:
    bundle = open_bundle(options.bundle)
    addresses = read_addresses(bundle.path(ADDRESSES))
    test = rows_of(options.features, "test")
    features = test["features"].combine_chunks().flatten().to_numpy().reshape(len(test), -1)
    row_of = {text: row for row, text in enumerate(addresses.texts)}
    true = np.array([row_of[text] for text in test["address"].to_pylist()], np.int64)
    groups = groups_by_column(np.array(test["place"].to_pylist(), dtype=object), "place")
    found = []
    for level in ("street", "neighbourhood", "corner"):
        candidates = coarser(addresses, level)
        right = _right(level, candidates, addresses, true)
        order = np.argsort(-(features @ query_features(bundle, candidates.texts.tolist()).T), axis=1, kind="stable")
        hits = np.take_along_axis(right, order[:, :5], axis=1)
        row: dict[str, Any] = {"candidates": level, "count": len(candidates),
                               "example": candidates.texts[0], "by_chance_5": float(_chance(right))}  # fmt: skip
        for k in (1, 5):
            measure = Measure(values=np.asarray(hits[:, :k].any(axis=1)))
            draws = Bootstrap(groups=groups).replicates({"hit": measure}, groups.weights)["hit"]
            row[f"top_{k}"] = [measure.estimate(groups.weights), *map(float, interval(draws, groups.count))]
        top = {k: "{:.1%} ({:.1%} to {:.1%})".format(*row[f"top_{k}"]) for k in (1, 5)}
        print(f"{level:14}{len(candidates):>6} candidates, as {row['example']!r}: top 1 {top[1]}, top 5 {top[5]}, "
              f"by chance {row['by_chance_5']:.1%}", flush=True)  # fmt: skip
        found.append(row)
    return found


def _right(level: str, candidates: Addresses, addresses: Addresses, true: np.ndarray) -> np.ndarray:
    """Which candidates are right for each image (n, c): its street, neighbourhood, or a corner of its sub-street."""
    streets, hoods = addresses.streets[true][:, None], addresses.neighbourhoods[true][:, None]
    same_hood = candidates.neighbourhoods[None] == hoods
    if level == "neighbourhood":
        return np.asarray(same_hood)
    if level == "street":
        return np.asarray(same_hood & (candidates.streets[None] == streets))
    pairs = [{candidates.streets[row], *candidates.crossings[row]} for row in range(len(candidates))]
    corners = [[{addresses.streets[row], crossing} for crossing in addresses.crossings[row]] for row in true.tolist()]
    return np.array([[pair in own for pair in pairs] for own in corners])


def _chance(right: np.ndarray) -> float:
    """How often one of five candidates drawn at random is right."""
    count, held = right.shape[1], right.sum(axis=1)
    missed = np.ones(len(right))
    for k in range(min(5, count)):
        missed *= np.clip(count - held - k, 0, None) / (count - k)
    return float(1 - missed.mean())


def _search(options: argparse.Namespace) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)

    def unit(count: int) -> np.ndarray:
        values = rng.standard_normal((count, options.num_features), dtype=np.float32)
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))

    places = np.stack([rng.uniform(40, 41, options.num_candidates), rng.uniform(-80, -79, options.num_candidates)], 1)
    gallery = Gallery(features=unit(options.num_candidates), latlon=places)
    images, search, rows = unit(options.num_images), GallerySearch(logit_scale=100.0, num_candidates=20), []
    for batch in (1, 16, 256):
        few = images[: batch * max(1, min(8, options.num_images // batch))]
        gallery.search(few[:batch], search)
        start = time.perf_counter()
        for at in range(0, len(few), batch):
            gallery.search(few[at : at + batch], search)
        rows.append({"batch": batch, "ms_an_image": 1000 * (time.perf_counter() - start) / len(few)})
        print(f"{options.num_candidates:,} candidates of {options.num_features} features, batches of {batch}: "
              f"{rows[-1]['ms_an_image']:.2f} ms an image", flush=True)  # fmt: skip
    return rows
