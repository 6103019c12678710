"""THE graph: the one definition of inference, which every runner executes."""

from dataclasses import dataclass

from geo_ray.errors import InputError
from geo_ray.models.bundle import Bundle
from geo_ray.pipeline.columns import ANSWER, SOURCE, Batch
from geo_ray.pipeline.stage import Runtime, Stage, StageSpec, run_stage
from geo_ray.pipeline.stages import Decode, Describe, Encode, RankCells, Refine, SearchPrototypes

OUTPUT = ("image_id", "uri", *(column.name for column in ANSWER), "problem")


@dataclass(frozen=True)
class Graph:
    """A tuple of stage specs over columns, checked when it is made; ``output`` are the columns that leave it."""

    stages: tuple[StageSpec, ...]
    inputs: tuple[str, ...] = tuple(column.name for column in SOURCE)
    output: tuple[str, ...] = OUTPUT

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for stage in self.stages:
            missing = [name for name in stage.reads if name not in known]
            if missing:
                raise ValueError(f"{type(stage).__name__} reads {missing}, which no earlier stage writes")
            known |= {column.name for column in stage.writes}
        if lost := [name for name in self.output if name not in known]:
            raise ValueError(f"no stage writes the output columns {lost}")

    def build(self, runtime: Runtime) -> "BuiltGraph":
        """The graph with every stage loaded, for one worker."""
        return BuiltGraph(self, tuple(stage.build(runtime) for stage in self.stages))

    def split(self, first: int) -> tuple["Graph", "Graph"]:
        """Two graphs that give the same when run one after the other, cut before stage ``first``."""
        head, tail = self.stages[:first], self.stages[first:]
        written = {column.name for stage in head for column in stage.writes}
        needed = {name for stage in tail for name in stage.reads} | set(self.output)
        between = tuple(name for name in (*self.inputs, *sorted(written)) if name in needed or name == "problem")
        return Graph(head, self.inputs, between), Graph(tail, between, self.output)


@dataclass(frozen=True)
class BuiltGraph:
    """A graph with its stages loaded; calling it answers a batch."""

    graph: Graph
    stages: tuple[Stage, ...]

    def __call__(self, batch: Batch) -> Batch:
        """The output columns for a batch of input columns, row for row."""
        for spec, stage in zip(self.graph.stages, self.stages, strict=True):
            batch = run_stage(spec, stage, batch)
        return {name: batch[name] for name in self.graph.output}


def encoder_stages(bundle: Bundle) -> tuple[StageSpec, ...]:
    """Bytes to image features: the part that building an index and inference have in common."""
    return (
        Decode(image_size=bundle.image_size, max_pixels=bundle.max_pixels),
        Encode(bundle=bundle.ref, image_size=bundle.image_size, num_features=bundle.num_features),
    )


def embedding_graph(bundle: Bundle) -> Graph:
    """The graph that answers image features."""
    return Graph(encoder_stages(bundle), output=("image_id", "uri", "image_features", "problem"))


def graph_of(bundle: Bundle, top_k: int | None = None) -> Graph:
    """The graph of a bundle, by its kind; ``top_k`` is how many candidates to report (default: at most 5).

    Raises ``InputError`` for a ``top_k`` that the bundle can't fill.
    """
    if bundle.kind != "cells":
        raise ValueError(f"bundle {bundle.ref}: kind {bundle.kind!r} has no graph; known: cells")
    num_cells = bundle.refinement.num_cells
    num_reported = min(5, num_cells) if top_k is None else top_k
    if not 1 <= num_reported <= num_cells:
        raise InputError(f"top_k={num_reported} must be from 1 to {num_cells}, the cells that {bundle.ref} refines")
    return Graph(
        (
            *encoder_stages(bundle),
            RankCells(bundle=bundle.ref, num_features=bundle.num_features, num_cells=num_cells),
            SearchPrototypes(bundle=bundle.ref, num_cells=num_cells, num_members=bundle.refinement.num_members),
            Refine(bundle=bundle.ref, num_cells=num_cells),
            Describe(bundle=bundle.ref, num_reported=num_reported),
        )
    )
