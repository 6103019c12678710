"""Fusing small areas of one country (PIGEON, section 3.1; reference: cell_collection.py:184-244)."""

import heapq

import numpy as np
import shapely
from jaxtyping import Int, Shaped
from shapely.affinity import scale

TOUCHING = 1.01  # areas touch when their shapes do, as they are or grown by this about the middle of their bounds
REACHING = 2.0  # an area that touches none looks for neighbours at this many times its size


def fuse(
    shapes: Shaped[np.ndarray, "a"],
    counts: Int[np.ndarray, "a"],
    admin_1: Shaped[np.ndarray, "a"],
    min_size: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "a"]:
    """The group of each area of one country, named by the area that absorbed the others.

    While a group holds fewer than ``min_size`` points, one of them drawn at random absorbs its largest neighbour, of
    the first kind there is: small ones of its own admin 1, any of its admin 1, small ones of the country, any of the
    country, any that its doubled shape reaches. One without neighbours stays as it is.
    """
    grown = np.array([scale(shape, TOUCHING, TOUCHING) for shape in shapes], dtype=object)
    tree = shapely.STRtree(grown)
    neighbours: list[set[int]] = [set() for _ in shapes]
    touching = [
        tree.query(grown, predicate="intersects"),
        shapely.STRtree(shapes).query(shapes, predicate="intersects"),
    ]
    for a, b in np.concatenate(touching, axis=1).T.tolist():
        if a != b:
            neighbours[a].add(b)
    members = [[area] for area in range(len(shapes))]
    group = np.arange(len(shapes))
    size = counts.astype(np.int64)

    def reached(area: int) -> set[int]:
        shape = scale(shapely.union_all(grown[members[area]]), REACHING, REACHING)
        return set(group[tree.query(shape, predicate="intersects")].tolist()) - {area}

    def largest(area: int) -> int | None:
        at_home = {other for other in neighbours[area] if admin_1[other] == admin_1[area]}
        for candidates in (at_home, neighbours[area]):
            for some in ({other for other in candidates if size[other] < min_size}, candidates):
                if some:
                    return max(some, key=lambda other: (size[other], -other))
        return max(reached(area), key=lambda other: (size[other], -other), default=None)

    waiting = [(float(rng.random()), area) for area in np.flatnonzero(size < min_size).tolist()]
    heapq.heapify(waiting)
    while waiting:
        _, area = heapq.heappop(waiting)
        if group[area] != area or size[area] >= min_size or (other := largest(area)) is None:
            continue
        group[members[other]] = area
        members[area] += members[other]
        size[area] += size[other]
        neighbours[area] = (neighbours[area] | neighbours[other]) - {area, other}
        for beyond in neighbours[other] - {area}:
            neighbours[beyond] = (neighbours[beyond] - {other}) | {area}
        if size[area] < min_size:
            heapq.heappush(waiting, (float(rng.random()), area))
    return group
