import re

import pytest
import shapely
from PIL import Image
from small_partitions import boxes_of, partition_of

from geo_ray.cells.partition import NO_NEIGHBOUR, NO_POINTS, NOT_SPLITTABLE, CellSizes
from geo_ray.errors import InputError, OutputError
from geo_ray.evaluation.cell_map import cells_section, draw_cells, write_cells_page

COUNTS = [0, 1, 29, 30, 60, 61, 120, 121, 9000]
REASONS = [NO_POINTS, NO_NEIGHBOUR, NO_NEIGHBOUR, "", "", NOT_SPLITTABLE, NOT_SPLITTABLE, NOT_SPLITTABLE, ""]
EVIL = '</p><script>alert(1)</script><img src="http://example.com/x">'


def rows_of(html):
    """The cells of all tables, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_picture_is_written(tmp_path):
    path = tmp_path / "cells.png"
    draw_cells(boxes_of(COUNTS), path, title="Nine cells", zoom="0,-1,9,2")
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (1200, 1220))


def test_unknown_zoom_is_named_and_nothing_is_written(tmp_path):
    for write in (draw_cells, write_cells_page):
        with pytest.raises(InputError, match="zoom='atlantis': no such place"):
            write(boxes_of(COUNTS), tmp_path / "cells", zoom="atlantis")
    assert not list(tmp_path.iterdir())


def test_unwritable_paths_are_named(tmp_path):
    for write in (draw_cells, write_cells_page):
        with pytest.raises(OutputError, match="can't be written"):
            write(boxes_of([40]), tmp_path)
        with pytest.raises(OutputError, match="can't be written"):
            write(boxes_of([40]), tmp_path / "missing" / "cells.out")


def test_tables_by_hand():
    rows = rows_of(cells_section(boxes_of(COUNTS, reasons=REASONS)))
    sizes, exceptions = rows[1:6], rows[7:]
    assert [row[1:] for row in sizes] == [
        ["1", "11.1 %"],
        ["2", "22.2 %"],
        ["2", "22.2 %"],
        ["2", "22.2 %"],
        ["2", "22.2 %"],
    ]
    assert exceptions == [
        [NOT_SPLITTABLE, "3", "302", "c7 (121)"],
        [NO_NEIGHBOUR, "2", "30", "c2 (29)"],
        [NO_POINTS, "1", "0", "c0 (0)"],
        ["no reason stated", "1", "9,000", "c8 (9,000)"],
    ]


def test_limits_other_than_pigeons():
    rows = rows_of(cells_section(boxes_of([1999, 2000, 999], sizes=CellSizes(min_size=1000, max_size=2000))))
    assert [row[1] for row in rows[1:6]] == ["0", "1", "2", "0", "0"]


def test_no_exceptions():
    section = cells_section(boxes_of([30, 60]))
    assert "No cell is outside the limits." in section
    assert len(rows_of(section)) == 6


def test_section_says_in_words_what_it_shows():
    alternative = re.search(r'alt="([^"]*)"', cells_section(boxes_of(COUNTS)))[1]
    assert "9 cells with 9,422 training points, built for 30 to 60 points a cell" in alternative


def test_page_refers_to_nothing_and_texts_stay_texts(tmp_path):
    cells = partition_of([shapely.box(0, 0, 1, 1)], [5], countries=[EVIL], reasons=[EVIL])
    path = tmp_path / "cells.html"
    write_cells_page(cells, path, title=EVIL)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert re.findall(r"<img src=\"(.{22})", page) == ["data:image/png;base64,"]
    assert len(re.findall(r"\s(?:src|href)=", re.sub(r"&lt;.*?&gt;", "", page))) == 1
    assert not re.search(r"url\(|@import|<link|<iframe|<object|\{\{", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'; img-src data:" in policy
    assert "unsafe" not in policy
    assert [one.name for one in tmp_path.iterdir()] == ["cells.html"]
