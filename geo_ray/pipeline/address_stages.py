"""The stages of a bundle of addresses: finding one, in the cells of another bundle where asked for, and its words."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geo_ray.atlas.addresses import read_addresses
from geo_ray.cells.labels import file_points
from geo_ray.cells.partition_file import read_partition
from geo_ray.index.gallery import read_gallery
from geo_ray.index.refine import feature_distance
from geo_ray.models.bundle import ADDRESSES, CELLS, GALLERY, open_bundle
from geo_ray.pipeline.cell_stages import RankCells
from geo_ray.pipeline.columns import ADDRESS, NO_ADDRESS, SOURCE, Batch, Column, view_columns
from geo_ray.pipeline.place_stages import FindPlace
from geo_ray.pipeline.stage import Runtime, Stage, StageSpec
from geo_ray.pipeline.stages import Decode, Encode

PREFIX = "within_"
SHARED = (*(column.name for column in SOURCE), *view_columns(8))


@dataclass(frozen=True, kw_only=True)
class OfAnother:
    """A stage of another bundle in the same graph: its columns have a prefix, but for the source's."""

    stage: StageSpec

    @property
    def reads(self) -> tuple[str, ...]:
        """What the stage reads, with the prefix."""
        return tuple(_prefixed(name) for name in self.stage.reads)

    @property
    def writes(self) -> tuple[Column, ...]:
        """What the stage writes, with the prefix."""
        return tuple(dataclasses.replace(column, name=_prefixed(column.name)) for column in self.stage.writes)

    def build(self, runtime: Runtime) -> Stage:
        """The stage, which doesn't know of the prefix."""
        inner = self.stage.build(runtime)

        def run(batch: Batch) -> Batch:
            answer = inner({name: batch[_prefixed(name)] for name in self.stage.reads})
            return {_prefixed(name): values for name, values in answer.items()}

        return run


def _prefixed(name: str) -> str:
    return name if name in SHARED else PREFIX + name


def within_stages(ref: str, num_views: int) -> tuple[StageSpec, StageSpec, StageSpec]:
    """Bytes to pixels, to features, and to the most probable cells of another bundle, as that bundle says."""
    bundle = open_bundle(ref)
    spec, refinement = bundle.encoder, bundle.refinement
    stages = (
        Decode(
            image_size=spec.image_size,
            max_pixels=bundle.max_pixels,
            preprocessing=spec.preprocessing,
            num_views=num_views,
        ),
        Encode(bundle=ref, num_features=spec.num_features, micro_batch=spec.micro_batch),
        RankCells(bundle=ref, num_features=spec.num_features, num_cells=refinement.num_cells),
    )
    decode, encode, rank = (OfAnother(stage=stage) for stage in stages)
    return decode, encode, rank


@dataclass(frozen=True, kw_only=True)
class SearchAddresses(FindPlace):
    """The addresses that an image is most like, of those in the cells that a bundle of cells finds it in.

    An image in whose cells there is none has the problem ``NO_ADDRESS``. Probabilities are among those that there are.
    """

    within: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The features, and the other bundle's cells."""
        return ("image_features", f"{PREFIX}cells")

    def build(self, runtime: Runtime) -> Stage:
        """Opens the gallery, and files its addresses in the cells."""
        bundle, other = open_bundle(self.bundle), open_bundle(self.within)
        gallery = read_gallery(bundle.path(GALLERY))
        cells = file_points(gallery.latlon, read_partition(other.path(CELLS)), other.filed_by)
        order = np.argsort(cells, kind="stable")
        numbers, starts = np.unique(cells[order], return_index=True)
        rows_of = dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))

        def run(batch: Batch) -> Batch:
            rows = [_rows_in(each, rows_of) for each in batch[f"{PREFIX}cells"]]
            found = gallery.search_among(batch["image_features"], rows, bundle.gallery_search)
            nearest = gallery.features[found.cells[:, 0]]
            return vars(found) | {
                "feature_distance": feature_distance(batch["image_features"], nearest),
                "spread_km": found.spread_km,
                "top_latlon": np.full_like(found.latlon, np.nan),
                "problem": np.array(["" if len(each) else NO_ADDRESS for each in rows], dtype=object),
            }

        return run


def _rows_in(cells: np.ndarray, rows_of: Mapping[int, np.ndarray]) -> np.ndarray:
    """Rows of the addresses that lie in any of some cells, ascending."""
    held = [rows_of[cell] for cell in dict.fromkeys(cells.tolist()) if cell in rows_of]
    return np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class DescribeAddress:
    """The answer's address in words, and those of its candidates."""

    bundle: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The answer, and the candidates as they were described."""
        return ("cell_id", "candidates")

    @property
    def writes(self) -> tuple[Column, ...]:
        """The address's columns, and the candidates with them."""
        return (*ADDRESS, Column(name="candidates", fill=()))

    def build(self, runtime: Runtime) -> Stage:
        """Loads the addresses."""
        addresses = read_addresses(open_bundle(self.bundle).path(ADDRESSES))
        parts = zip(addresses.texts, addresses.streets, addresses.neighbourhoods, strict=True)
        names = [column.name for column in ADDRESS]
        words = {key: dict(zip(names, each, strict=True)) for key, each in zip(addresses.ids, parts, strict=True)}

        def run(batch: Batch) -> Batch:
            answers = [words[key] for key in batch["cell_id"]]
            found = {name: np.array([answer[name] for answer in answers], dtype=object) for name in names}
            candidates = np.empty(len(answers), dtype=object)
            for row, listed in enumerate(batch["candidates"]):
                candidates[row] = [candidate | words[candidate["cell_id"]] for candidate in listed]
            return found | {"candidates": candidates}

        return run
