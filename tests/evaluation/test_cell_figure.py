import io

import numpy as np
import pytest
import shapely
from matplotlib.colors import LogNorm, to_rgb
from PIL import Image
from small_partitions import across, boxes_of, partition_of

from geo_ray.cells.partition import CellSizes
from geo_ray.cells.rectangles import build_rectangles
from geo_ray.evaluation.cell_figure import COLOURS, EMPTY, LAND, SEA, bar_edges, cells_png

WORLD = (600, 365)  # where latitude and longitude 0 are, in pixels from the top left
ZOOM = (355, 952)  # the middle of the zoom
DEGREE = 3.08  # pixels of the world, on the equator
TOLERANCE = 3 / 255


def pixel(png, middle, right, down):
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return np.array(image.getpixel((round(middle[0] + right), round(middle[1] + down)))) / 255


def colour(count, sizes=(30, 60)):
    return np.array(COLOURS(LogNorm(sizes[0] / 5, sizes[1] * 5)(count))[:3])


def test_size_of_the_picture():
    image = Image.open(io.BytesIO(cells_png(boxes_of([45, 0]))))
    assert (image.format, image.size) == ("PNG", (1200, 1220))


def test_the_same_cells_make_the_same_file():
    assert cells_png(boxes_of([45, 100])) == cells_png(boxes_of([45, 100]))


def test_colours_and_holes():
    outside, hole = shapely.box(-60, -40, 60, 40), shapely.box(-20, -15, 20, 15)
    ring = shapely.Polygon(outside.exterior.coords, [hole.exterior.coords])  # both run the same way
    png = cells_png(partition_of([ring, shapely.box(-8, -8, 8, 8), shapely.box(100, -40, 160, -20)], [300, 0, 40]))
    for longitude, down, expected in [
        (-40, 0, colour(300)),
        (0, 0, to_rgb(EMPTY)),
        (-14, 0, to_rgb(SEA)),
        (120, 120, colour(40)),
        (85, -150, to_rgb(LAND)),  # Asia: the cells leave most land out, so it is shown
    ]:
        np.testing.assert_allclose(pixel(png, WORLD, longitude * DEGREE, down), expected, atol=TOLERANCE)


def test_a_cell_across_longitude_180_has_no_seam():
    cells = partition_of([across(170, -20, -170, -10), across(170, -35, -170, -20)], [45, 200], countries=["FJ", "NZ"])
    for zoom in ("170,-25,-170,-5", "fj"):
        png = cells_png(cells, zoom=zoom)
        for x in (-30, 0, 1, 30):
            np.testing.assert_allclose(pixel(png, ZOOM, x, 0), colour(45), atol=TOLERANCE)


def test_polar_cells_and_a_cell_about_the_antipode():
    cells = partition_of([shapely.box(-180, 55, 180, 90), shapely.box(-180, -90, 180, -50)], [45, 200])
    png = cells_png(cells, zoom=(-180.0, 60.0, 180.0, 90.0))
    for place in ([60, 0], [-60, 0], [0, 60], [100, 100]):
        np.testing.assert_allclose(pixel(png, ZOOM, *place), colour(45), atol=0.2)  # coasts may cross it
    np.testing.assert_allclose(pixel(png, WORLD, 0, 262), colour(200), atol=TOLERANCE)


def test_a_partition_of_the_whole_earth_draws():
    latlon = np.random.default_rng(0).uniform([-90, -180], [90, 180], (500, 2))
    cells = build_rectangles(latlon, CellSizes(min_size=5, max_size=10))
    png = cells_png(cells, zoom="-170,-90,175,-60")
    shown = pixel(png, ZOOM, 3, 40)
    distance = [np.abs(shown - colour(count, (5, 10))).max() for count in np.unique(cells.counts)]
    assert min(distance) < TOLERANCE


@pytest.mark.parametrize(
    ("sizes", "most"), [((30, 60), 1), ((30, 60), 5000), ((1, 1), 1), ((1, 60), 61), ((1000, 2000), 9000), ((7, 7), 3)]
)
def test_bars_begin_at_the_limits_and_hold_every_count(sizes, most):
    edges = bar_edges(CellSizes(min_size=sizes[0], max_size=sizes[1]), most)
    assert edges[0] == 1
    assert edges[-1] > most
    assert {sizes[0], sizes[1] + 1} <= set(edges.tolist())
    assert (np.diff(edges) > 0).all()
    assert np.histogram(np.arange(1, most + 1), edges)[0].sum() == most


@pytest.mark.parametrize("counts", [[0, 0], [1, 1], [100_000, 3]])
def test_odd_sizes_draw(counts):
    assert cells_png(boxes_of(counts, sizes=CellSizes(min_size=1, max_size=1)))
