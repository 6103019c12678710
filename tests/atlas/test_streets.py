"""Streets and sub-streets: every kind of junction by hand, and the real city by an oracle of its own."""

import networkx
import numpy as np
import pytest
import shapely

from geo_ray.atlas.street_files import read_streets
from geo_ray.atlas.streets import Cutting, cut_streets, local_lines, main_names, middle_of
from geo_ray.errors import InputError
from tests.atlas.street_graphs import check_cover, graph_of, grid, said
from tests.shared_data import shared

ALL = Cutting(min_points=0)


def test_a_grid_is_cut_at_each_crossing():
    graph = grid(3, 2)
    cut = cut_streets(graph, ALL)
    assert said(cut) == [
        ("Column 0", ("Row 0", "Row 1"), 1), ("Column 1", ("Row 0", "Row 1"), 1), ("Column 2", ("Row 0", "Row 1"), 1),
        ("Row 0", ("Column 0", "Column 1"), 1), ("Row 0", ("Column 1", "Column 2"), 1),
        ("Row 1", ("Column 0", "Column 1"), 1), ("Row 1", ("Column 1", "Column 2"), 1),
    ]  # fmt: skip
    assert cut.counts["streets"] == 5
    assert cut.num_points.tolist() == [10] * 7
    check_cover(graph, cut)


@pytest.mark.parametrize("center", [(0.0, 179.9995), (64.0, -180.0), (40.0, -78.0), (-33.9, 18.4)])
def test_the_antimeridian_a_border_of_utm_zones_and_the_south_are_no_matter(center):
    cut = cut_streets(grid(3, 2, center=center), ALL)
    assert len(cut) == 7
    assert cut.num_points.tolist() == [10] * 7


def test_a_dead_end_has_one_crossing_and_a_street_alone_has_none():
    graph = graph_of(
        {"a": (0, 0), "b": (100, 0), "c": (100, 90), "d": (900, 900), "e": (990, 900)},
        [("a", "b", "Main"), ("b", "c", "Blind Alley"), ("d", "e", "Far Road")],
    )
    assert said(cut_streets(graph, ALL)) == [
        ("Blind Alley", ("Main",), 1), ("Far Road", (), 1), ("Main", ("Blind Alley",), 1),
    ]  # fmt: skip


def test_a_loop_at_one_node_is_a_sub_street():
    graph = graph_of({"a": (0, 0), "b": (100, 0)}, [("a", "b", "Main"), ("b", "b", "Loop")])
    cut = cut_streets(graph, ALL)
    assert said(cut) == [("Loop", ("Main",), 1), ("Main", ("Loop",), 1)]
    check_cover(graph, cut)
    at = middle_of(local_lines(graph.lines, graph.center)[cut.edges[0]])
    assert np.isfinite([at.x, at.y]).all()


def test_the_carriageways_of_an_avenue_are_one_sub_street_between_the_same_crossings():
    nodes = {f"{side}{x}": (100 * x, 20 * (side == "n")) for side in "ns" for x in range(4)}
    lanes = [(f"{side}{x}", f"{side}{x + 1}", "Avenue") for side in "ns" for x in range(3)]
    across = [(f"n{x}", f"s{x}", f"{x} Street") for x in range(4)]
    graph = graph_of(nodes, lanes + across)
    cut = cut_streets(graph, ALL)
    assert [entry for entry in said(cut) if entry[0] == "Avenue"] == [
        ("Avenue", ("0 Street", "1 Street"), 2), ("Avenue", ("1 Street", "2 Street"), 2),
        ("Avenue", ("2 Street", "3 Street"), 2),
    ]  # fmt: skip
    assert cut.counts["parallel_merged"] == 3
    check_cover(graph, cut)


def test_a_named_roundabout_is_cut_where_streets_enter():
    ring = {f"r{n}": (80 * np.cos(n * np.pi / 3), 80 * np.sin(n * np.pi / 3)) for n in range(6)}
    edges = [(f"r{n}", f"r{(n + 1) % 6}", "Circle") for n in range(6)]
    arms = {"east": (300, 0), "west": (-300, 0)}
    graph = graph_of(ring | arms, [*edges, ("r0", "east", "East Road"), ("r3", "west", "West Road")])
    cut = cut_streets(graph, ALL)
    assert [entry for entry in said(cut) if entry[0] == "Circle"] == [
        ("Circle", ("East Road", "West Road"), 3), ("Circle", ("East Road", "West Road"), 3),
    ]  # fmt: skip
    check_cover(graph, cut)


def test_two_streets_of_one_name_are_two_and_across_a_gap_one():
    far = graph_of({"a": (0, 0), "b": (100, 0), "c": (900, 0), "d": (980, 0)}, [("a", "b", "Oak"), ("c", "d", "Oak")])
    near = graph_of({"a": (0, 0), "b": (100, 0), "c": (120, 0), "d": (200, 0)}, [("a", "b", "Oak"), ("c", "d", "Oak")])
    assert (cut_streets(far, ALL).counts["streets"], cut_streets(near, ALL).counts["streets"]) == (2, 1)
    short = Cutting(min_points=11)
    assert len(cut_streets(far, short)) == 2  # nothing beside either
    assert len(cut_streets(near, short)) == 1


def test_edges_without_a_name_neither_cut_nor_count():
    nodes = {f"{x}": (100 * x, 0) for x in range(3)} | {"lot": (100, 80)}
    graph = graph_of(nodes, [("0", "1", "Main"), ("1", "2", "Main"), ("1", "lot")])
    cut = cut_streets(graph, ALL)
    assert said(cut) == [("Main", (), 2)]
    assert cut.counts["named_edges"] == 2
    check_cover(graph, cut)


def test_a_graph_without_names_is_refused():
    with pytest.raises(InputError, match=r"none of its 1 edges has a name.*--name-column"):
        graph_of({"a": (0, 0), "b": (100, 0)}, [("a", "b")])


def test_a_crossing_too_near_to_another_does_not_cut():
    nodes = {"0": (0, 0), "1": (100, 0), "2": (115, 0), "3": (215, 0), "n": (100, 90), "s": (115, -90)}
    edges = [("0", "1", "Main"), ("1", "2", "Main"), ("2", "3", "Main"), ("1", "n", "North"), ("2", "s", "South")]
    graph = graph_of(nodes, edges)
    cut = cut_streets(graph, ALL)
    assert len([entry for entry in said(cut) if entry[0] == "Main"]) == 2
    assert cut.counts["dropped_crossings"] == 1
    apart = cut_streets(graph, Cutting(min_points=0, near_m=10.0))
    assert len([entry for entry in said(apart) if entry[0] == "Main"]) == 3
    for each in (cut, apart):
        check_cover(graph, each)


def test_short_sub_streets_join_the_shortest_beside_them():
    nodes = {f"{x}": (x, 0) for x in (0, 100, 140, 200)} | {f"n{x}": (x, 90) for x in (100, 140)}
    edges = [("0", "100", "Main"), ("100", "140", "Main"), ("140", "200", "Main"), ("100", "n100", "A"),
             ("140", "n140", "B")]  # fmt: skip
    cut = cut_streets(graph_of(nodes, edges))
    assert [entry for entry in said(cut) if entry[0] == "Main"] == [("Main", ("A",), 1), ("Main", ("A",), 2)]
    assert cut.counts["short_merged"] == 1


def test_points_count_on_the_nearest_edge():
    graph = grid(3, 1)
    lonlat = shapely.get_coordinates(shapely.line_interpolate_point(graph.lines, 0.5, normalized=True))
    points = np.repeat(lonlat[:, ::-1], [7, 2], axis=0)
    assert cut_streets(graph, Cutting(min_points=0), points).num_points.sum() == 9
    assert len(cut_streets(graph, Cutting(min_points=5), points)) == 1


def test_of_several_names_the_one_that_goes_on_is_the_streets():
    graph = graph_of({f"{x}": (100 * x, 0) for x in range(4)}, [("0", "1", "A"), ("1", "2", "B", "A"), ("2", "3", "A")])
    assert main_names(graph).tolist() == ["A", "A", "A"]
    changing = graph_of(
        {f"{x}": (100 * x, 0) for x in range(4)}, [("0", "1", "A"), ("1", "2", "A", "B"), ("2", "3", "B")]
    )
    cut = cut_streets(changing, ALL)
    assert said(cut) == [("A", ("B",), 2), ("B", ("A",), 1)]
    check_cover(changing, cut)


@pytest.mark.parametrize("bad", [{"near_m": -1.0}, {"join_m": 5000.0}, {"spacing_m": 0.0}, {"min_points": -1}])
def test_settings_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Cutting(**bad)


@pytest.fixture(scope="module")
def pittsburgh():
    return read_streets([str(shared("pittsburgh/edges.csv")), str(shared("pittsburgh/nodes_hood.csv"))])


@pytest.fixture(scope="module")
def pittsburgh_cut(pittsburgh):
    return cut_streets(pittsburgh)


def test_pittsburgh_covers_every_named_edge_once(pittsburgh, pittsburgh_cut):
    check_cover(pittsburgh, pittsburgh_cut)
    assert pittsburgh_cut.counts["named_edges"] == 26_079


def test_pittsburghs_sub_streets_hang_together(pittsburgh, pittsburgh_cut):
    """By another way: what is within the distances at which crossings and gaps are one is one shape."""
    lines = local_lines(pittsburgh.lines, pittsburgh.center)
    wide = Cutting()
    apart = [
        number for number, edges in enumerate(pittsburgh_cut.edges)
        if len(edges) > 1 and shapely.union_all(
            shapely.buffer(lines[edges], max(wide.join_m, wide.same_m))
        ).geom_type != "Polygon"
    ]  # fmt: skip
    assert apart == []


def test_pittsburghs_sub_streets_end_at_crossings_or_ends(pittsburgh, pittsburgh_cut):
    """Where a sub-street stops and its street goes on, another street crosses there or near, by a graph of its own."""
    street_at = networkx.MultiGraph()
    owner = np.full(len(pittsburgh.names), -1)
    for number, edges in enumerate(pittsburgh_cut.edges):
        owner[edges] = number
    for edge, (a, b) in enumerate(pittsburgh.ends.tolist()):
        if owner[edge] >= 0:
            street_at.add_edge(a, b, edge=edge)
    streets = pittsburgh_cut.streets
    odd = []
    for node in street_at:
        held = {owner[data["edge"]] for _, _, data in street_at.edges(node, data=True)}
        by_street = {}
        for sub_street in held:
            by_street.setdefault(streets[sub_street], set()).add(sub_street)
        names = {pittsburgh_cut.names[sub_street] for sub_street in held}
        odd += [node for parts in by_street.values() if len(parts) > 1 and len(names) < 2]
    assert odd == []
