"""Tables of images, and rows of them that are views of one item."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.data.sources import Input, fetch, input_batches, list_inputs, num_views
from geo_ray.errors import InputError


def write(path, text):
    path.write_text(text)
    return str(path)


def test_rows_are_images_beside_the_table(tmp_path):
    table = write(tmp_path / "a.csv", "id,path,lat\n7,x.jpg,1\n8,sub/y.jpg,2\n9,/abs/z.jpg,3\n")
    assert list_inputs([table]) == [
        Input(image_id="7", uri=str(tmp_path / "x.jpg")),
        Input(image_id="8", uri=str(tmp_path / "sub/y.jpg")),
        Input(image_id="9", uri="/abs/z.jpg"),
    ]


def test_an_image_without_an_id_is_called_by_its_path(tmp_path):
    assert [item.image_id for item in list_inputs([write(tmp_path / "a.tsv", "file\nx.jpg\ny.jpg\n")])] == [
        "x.jpg",
        "y.jpg",
    ]


def test_views_are_grouped_in_the_tables_order(tmp_path):
    pq.write_table(
        pa.table({"uri": ["b.jpg", "s3://k/n.jpg", "a.jpg"], "Place": ["p", "q", "p"]}), tmp_path / "t.parquet"
    )
    items = list_inputs([str(tmp_path / "t.parquet")], views_by="Place")
    assert [item.image_id for item in items] == ["p", "q"]
    assert items[0].views == (str(tmp_path / "b.jpg"), str(tmp_path / "a.jpg"))
    assert items[1].views == ("s3://k/n.jpg",)
    assert num_views(items) == 2


def test_each_view_is_read_and_one_that_fails_is_the_items_problem(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    table = write(tmp_path / "t.csv", "item,uri\n1,a.jpg\n1,b.jpg\n2,b.jpg\n3,a.jpg\n3,gone.jpg\n")
    (batch,) = input_batches(list_inputs([table], views_by="item"), 10)
    read = fetch(batch)
    assert read["bytes"].tolist() == [b"a", b"b", b"a"]
    assert read["bytes_2"].tolist() == [b"b", None, None]
    assert read["problem"].tolist() == ["", "", "fetch_failed"]


@pytest.mark.parametrize(
    ("text", "views_by", "message"),
    [
        ("id,lat\n1,2\n", None, "no column for the image; call it uri"),
        ("uri\na\n", "place", "no column 'place'"),
        ("id,uri\n1,a\n1,b\n", None, r"'1' has 2 rows; group views of one item with --views-by"),
        ("id,uri\n1,a\n2,\n", None, "1 of 2 rows name no image"),
        ("place,uri\n,a\n", "place", "1 rows have no id"),
        ("place,uri\n" + "p,a\n" * 9, "place", "'p' has 9 rows; an item has at most 8 views"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, views_by, message):
    with pytest.raises(InputError, match=message):
        list_inputs([write(tmp_path / "t.csv", text)], views_by)


def test_views_need_a_manifest(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    with pytest.raises(InputError, match="grouped by a column of a manifest"):
        list_inputs([str(tmp_path)], views_by="place")


def test_an_id_in_two_tables_is_refused(tmp_path):
    tables = [write(tmp_path / name, "id,uri\n1,a\n") for name in ("a.csv", "b.csv")]
    with pytest.raises(InputError, match="'1' is there twice"):
        list_inputs(tables)
