"""Small street graphs, in metres about a place."""

import numpy as np
import shapely

from geo_ray.atlas.streets import StreetGraph, from_local_xy


def graph_of(nodes, edges, center=(40.45, -79.95), hoods=None):
    """A graph of nodes by name (metres east and north) and edges: two names of nodes, and names of the street."""
    latlon = from_local_xy(np.array(list(nodes.values()), np.float64), np.array(center, np.float64))
    row = {name: number for number, name in enumerate(nodes)}
    ends = np.array([(row[a], row[b]) for a, b, *_ in edges], np.int64)
    return StreetGraph(
        latlon=latlon,
        neighbourhoods=np.array([(hoods or {}).get(name, "") for name in nodes], dtype=object),
        ends=ends,
        names=[tuple(names) for _, _, *names in edges],
        lines=np.array([shapely.LineString(latlon[pair][:, ::-1]) for pair in ends], dtype=object),
        source="test",
    )


def grid(width, height, step=100.0, center=(40.45, -79.95)):
    """Streets "Row 0", "Row 1" ... from west to east, and "Column 0" ... from south to north."""
    nodes = {f"{x},{y}": (x * step, y * step) for y in range(height) for x in range(width)}
    rows = [(f"{x},{y}", f"{x + 1},{y}", f"Row {y}") for y in range(height) for x in range(width - 1)]
    columns = [(f"{x},{y}", f"{x},{y + 1}", f"Column {x}") for x in range(width) for y in range(height - 1)]
    hoods = {name: "West" if int(name.split(",")[0]) * 2 < width else "East" for name in nodes}
    return graph_of(nodes, rows + columns, center, hoods)


def said(cut):
    """Each sub-street as its name, the names at its ends and how many edges it has, sorted."""
    return sorted(
        (name, crossings, len(edges))
        for name, crossings, edges in zip(cut.names, cut.crossings, cut.edges, strict=True)
    )


def check_cover(graph, cut):
    """Every named edge is in exactly one sub-street, whose street it is called after; each hangs together."""
    counts = np.bincount(np.concatenate(cut.edges), minlength=len(graph.names))
    assert (counts == [bool(names) for names in graph.names]).all()
    for name, edges in zip(cut.names, cut.edges, strict=True):
        assert all(name in graph.names[edge] for edge in edges)
