"""What a user of `geo-ray cells` sees."""

import subprocess
import sys

import numpy as np
import pyogrio.raw
import pytest
import shapely

from geo_ray.atlas.boundaries import write_boundaries
from geo_ray.atlas.boundary_files import load_boundaries
from geo_ray.cells.partition_file import read_partition
from geo_ray.cli import main
from tests.boundary_layers import geoparquet
from tests.cells.worlds import cluster


@pytest.fixture
def world(tmp_path):
    """Two countries in a GeoJSON file and a table of places: paths of both."""
    squares = np.array([shapely.box(0, 0, 2, 2), shapely.box(2, 0, 4, 2)], dtype=object)
    names = [np.array(["FRA", "DEU"], dtype=object), np.array(["a", "b"], dtype=object)]
    areas, places = tmp_path / "areas.geojson", tmp_path / "places.csv"
    pyogrio.raw.write(
        areas, shapely.to_wkb(squares), [*names, names[1]], ["GID_0", "NAME_1", "NAME_2"],
        geometry_type="Polygon", crs="EPSG:4326",
    )  # fmt: skip
    latlon = np.concatenate([cluster(50, 0.5, 0.5), cluster(45, 1.5, 1.5), cluster(35, 1, 3)])
    places.write_text("lat,lon\n" + "".join(f"{a},{b}\n" for a, b in latlon.tolist()))
    return areas, places


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_build_show_check_and_plot(world, tmp_path, capsys):
    areas, places = world
    cells = tmp_path / "cells.parquet"
    command = ["cells", "build", "--points", places, "--boundaries", areas, "--output", cells]
    said = subprocess.run(  # with a Ray of its own
        [sys.executable, "-m", "geo_ray.cli", *command], check=True, capture_output=True, text=True
    ).stdout
    assert "3 cells for 130 points in 2 countries" in said
    assert run("cells", "show", cells) == 0
    assert capsys.readouterr().out == said
    assert read_partition(cells).countries.tolist() == ["DE", "FR", "FR"]
    assert run("cells", "check", cells, "--points", places, "--boundaries", areas) == 0
    assert capsys.readouterr().out.count("ok  ") == 6
    for picture in ("map.png", "map.html"):
        assert run("cells", "plot", cells, "--output", tmp_path / picture, "--zoom", "0,0,4,2") == 0
        assert (tmp_path / picture).stat().st_size > 10_000


@pytest.mark.parametrize(("kind", "cell"), [("rectangles", "c00000"), ("s2", "3")])
def test_the_other_kinds(world, tmp_path, capsys, kind, cell):
    _, places = world
    cells = tmp_path / "cells.parquet"
    assert run("cells", "build", "--kind", kind, "--points", places, "--output", cells) == 0
    assert "for 130 points" in capsys.readouterr().out
    assert cell in read_partition(cells).cell_ids


def test_cells_that_break_a_promise(world, tmp_path, capsys):
    areas, places = world
    cells = tmp_path / "cells.parquet"
    assert run("cells", "build", "--kind", "rectangles", "--points", places, "--output", cells) == 0
    other = tmp_path / "other.csv"
    other.write_text("lat,lon\n1,1\n")
    capsys.readouterr()
    assert run("cells", "check", cells, "--points", other, "--boundaries", areas) == 1
    output = capsys.readouterr()
    assert "BROKEN  each cell's count" in output.out
    assert "breaks 1 promises" in output.err


def test_a_layer_and_a_file_of_admin_1(world, tmp_path, capsys):
    areas, places = world
    cells, layers, missing = tmp_path / "cells.parquet", tmp_path / "layers.gpkg", tmp_path / "nowhere"
    meta, _, polygons, names = pyogrio.raw.read(areas)
    for layer, rows in (("one", slice(1)), ("both", slice(2))):
        pyogrio.raw.write(
            layers, polygons[rows], [column[rows] for column in names], meta["fields"],
            layer=layer, geometry_type="Polygon", crs="EPSG:4326", append=layers.exists(),
        )  # fmt: skip
    assert run("cells", "build", "--kind", "rectangles", "--points", places, "--output", cells) == 0
    check, build = ["check", cells], ["build", "--points", places, "--output", missing]
    assert run("cells", *check, "--boundaries", layers, "--layer", "both", "--admin-1", areas) == 0
    capsys.readouterr()
    for options, words in [
        (["--boundaries", layers], "name one of one, both"),
        (["--boundaries", layers, "--layer", "third"], "no layer 'third'"),
        (["--boundaries", layers, "--layer", "both", "--admin-1", missing], "nowhere: no such file"),
        (["--boundaries", cells, "--layer", "both"], "is GeoParquet"),
        (["--layer", "both"], "name it with --boundaries FILE"),
        (["--admin-1", areas], "name it with --boundaries FILE"),
    ]:
        for command in (build, check):
            assert run("cells", *command, *options) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert words in error
    assert run("cells", *build, "--kind", "s2", "--layer", "both") == 2


def test_geoparquet_with_a_file_of_admin_1(world, tmp_path, capsys):
    areas, places = world
    cells, parquet = tmp_path / "cells.parquet", tmp_path / "areas.geoparquet"
    assert run("cells", "build", "--kind", "rectangles", "--points", places, "--output", cells) == 0
    geoparquet(parquet, [({"Country": "Deutschland", "admin_1": ""}, shapely.box(0, 0, 2, 2))])
    capsys.readouterr()
    assert run("cells", "check", cells, "--boundaries", parquet) == 2
    assert "are of no country that ISO 3166 knows, such as row 0 (Deutschland)" in capsys.readouterr().err
    geoparquet(parquet, [({"Country": "Germany", "admin_1": ""}, shapely.box(0, 0, 2, 2))])
    assert run("cells", "check", cells, "--boundaries", parquet, "--admin-1", areas) == 0
    write_boundaries(load_boundaries(parquet), parquet)
    capsys.readouterr()
    assert run("cells", "check", cells, "--boundaries", parquet, "--admin-1", areas) == 2
    assert "leave out --layer and --admin-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("lat,lon\n", "no rows"),
        ("lat,lon\n1,nan\n95,2\n", r"2 of 2 points"),
        ("lat,lon\n40,120\n120,40\n110,30\n", "2 of 3 points"),
        ("lat,lon\n120,40\n110,41\n", "swapped"),
        ("a,b\n1,2\n", "no column for the latitude"),
    ],
)
def test_bad_points(world, tmp_path, capsys, table, words):
    areas, places = world
    places.write_text(table)
    assert run("cells", "build", "--points", places, "--boundaries", areas, "--output", tmp_path / "c.parquet") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_other_bad_input(world, tmp_path, capsys):
    areas, places = world
    missing = tmp_path / "nowhere"
    for arguments, words in [
        (("build", "--points", missing, "--output", missing), "nowhere does not exist"),
        (("build", "--points", places, "--boundaries", missing, "--output", missing), "nowhere"),
        (("build", "--points", places, "--output", missing, "--min-size", 100), "cells of 100 to 60 points"),
        (("show", places), "not a readable GeoParquet file"),
        (("plot", missing), "nowhere"),
    ]:
        assert run("cells", *arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error
    areas.write_text(areas.read_text().replace("[ 2.0, 0.0 ]", "[ 2.0, null ]"))
    assert run("cells", "build", "--points", places, "--boundaries", areas, "--output", missing) == 2
