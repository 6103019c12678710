"""Tables of images, and rows of them that are views of one item."""

import os

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.data.sources import Input, SourceOptions, fetch, input_batches, list_inputs, num_views, open_sources
from geo_ray.data.sources.reading import Access
from geo_ray.errors import InputError
from tests.data.web_server import policy, serving


def write(path, text):
    path.write_text(text)
    return str(path)


def test_rows_are_images_beside_the_table(tmp_path):
    table = write(tmp_path / "a.csv", f"id,path,lat\n7,x.jpg,1\n8,sub/y.jpg,2\n9,{tmp_path}/z.jpg,3\n")
    assert list_inputs([table]) == [
        Input(image_id="7", uri=str(tmp_path / "x.jpg")),
        Input(image_id="8", uri=str(tmp_path / "sub/y.jpg")),
        Input(image_id="9", uri=str(tmp_path / "z.jpg")),
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


def rows_of(*inputs, **options):
    sources = open_sources([str(one) for one in inputs], SourceOptions(**options))
    return [row for shard in sources.shards() for row in shard.rows()]


@pytest.fixture
def inside(tmp_path):
    """A folder for manifests, with an image in it, one beside it, and links to it and out of it."""
    folder = tmp_path / "inside"
    (folder / "sub").mkdir(parents=True)
    (folder / "in.jpg").write_bytes(b"in")
    (tmp_path / "out.jpg").write_bytes(b"out")
    (tmp_path / "inside2").mkdir()
    (tmp_path / "inside2" / "near.jpg").write_bytes(b"near")
    (folder / "link_in.jpg").symlink_to(folder / "in.jpg")
    (folder / "link_out.jpg").symlink_to(tmp_path / "out.jpg")
    (folder / "link_folder").symlink_to(tmp_path)
    return folder


ALLOWED = ["in.jpg", "sub/../in.jpg", "./in.jpg", "link_in.jpg", "{inside}/in.jpg", "file://{inside}/in.jpg",
           "link_folder/inside/in.jpg"]  # fmt: skip
REFUSED = [
    "../out.jpg", "{outside}/out.jpg", "/etc/passwd", "file:///etc/passwd", "file://{outside}/out.jpg",
    "FILE:///etc/passwd", "file://{inside}/%2e%2e/out.jpg", "link_out.jpg", "link_folder/out.jpg",
    "../inside2/near.jpg", "local:///etc/passwd", "simplecache::file:///etc/passwd", "sftp://localhost/x.jpg",
    "s3::file:///etc/passwd", "s3://b/k::file:///etc/passwd", "zip://a::file:///etc/b", "/dev/zero",
    "/proc/self/environ",
]  # fmt: skip


def test_what_a_manifest_may_name_lies_below_its_folder(inside):
    lines = [one.format(inside=inside, outside=inside.parent) for one in ALLOWED + REFUSED]
    table = write(inside / "t.csv", "uri\n" + "".join(f"{line}\n" for line in lines))
    rows = rows_of(table)
    assert [(row.contents, row.problem) for row in rows[: len(ALLOWED)]] == [((b"in",), "")] * len(ALLOWED)
    refused = [(row.contents, row.problem) for row in rows[len(ALLOWED) :]]
    assert refused == [((None,), "blocked_path")] * len(REFUSED)


@pytest.mark.parametrize("line", REFUSED)
def test_few_images_of_a_manifest_are_refused_at_once(inside, line):
    table = write(inside / "t.csv", f"uri\nin.jpg\n{line.format(inside=inside, outside=inside.parent)}\n")
    with pytest.raises(InputError, match=r"outside .*, the only folder that it may name files in.* allowed_root"):
        list_inputs([table])


def test_another_folder_can_be_allowed(inside):
    table = write(inside / "t.csv", f"uri\n../out.jpg\n{inside.parent}/inside2/near.jpg\n/etc/passwd\n")
    rows = rows_of(table, allowed_root=str(inside.parent))
    assert [row.problem for row in rows] == ["", "", "blocked_path"]


def test_paths_can_start_from_another_folder(inside):
    table = write(inside / "sub" / "t.csv", "IMG_FILE,LAT,LON\nin.jpg,1,2\n../out.jpg,1,2\n")
    rows = rows_of(table, image_folder=str(inside))
    assert [(row.image_id, row.problem) for row in rows] == [("in.jpg", ""), ("../out.jpg", "blocked_path")]


def test_a_manifest_that_lies_elsewhere_names_no_local_file(inside):
    fs = fsspec.filesystem("memory")
    lines = ["x.jpg", "memory://there/x.jpg", "../there/x.jpg", f"{inside}/in.jpg", f"file://{inside}/in.jpg"]
    fs.pipe({"/there/t.csv": "\n".join(["uri", *lines]).encode(), "/there/x.jpg": b"x"})
    rows = rows_of("memory://there/t.csv", allowed_root="/")
    assert [row.problem for row in rows] == ["", "", *["blocked_path"] * 3]
    with pytest.raises(InputError, match=r"names '\.\./there/x\.jpg' and 2 others; .* no local files"):
        list_inputs(["memory://there/t.csv"])
    local = write(inside / "t.csv", "uri\nx.jpg\n../inside/in.jpg\n/etc/passwd\n")
    assert [row.problem for row in rows_of(local, image_folder="memory://there")] == ["", *["blocked_path"] * 2]


def test_a_link_that_changes_after_it_was_listed_is_judged_when_it_is_read(inside):
    (inside / "turns.jpg").symlink_to(inside / "in.jpg")
    (shard,) = open_sources([write(inside / "t.csv", "uri\nturns.jpg\n")]).shards()
    (inside / "turns.jpg").unlink()
    (inside / "turns.jpg").symlink_to("/etc/passwd")
    assert [row.problem for row in shard.rows()] == ["blocked_path"]


def test_the_root_of_all_can_be_allowed():
    assert Access(root="/").allowed("/etc/passwd")
    assert not Access(root="/etc").allowed("/etc")
    assert not Access(root=None).allowed("/etc/passwd")


def test_pipes_and_devices_are_not_waited_for(inside):
    os.mkfifo(inside / "pipe.jpg")
    table = write(inside / "t.csv", "uri\npipe.jpg\nsub\n/dev/zero\n")
    assert [row.problem for row in rows_of(table, allowed_root="/")] == ["not_a_file"] * 3


def test_columns_can_be_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"x")
    table = write(tmp_path / "t.csv", "path,IMG_ID,name\ngone.jpg,x.jpg,a\n")
    (row,) = rows_of(table, image_column="img_id", id_column="name")
    assert (row.image_id, row.contents) == ("a", (b"x",))
    for options, message in (
        ({"image_column": "photo"}, "no column for the image; call it photo"),
        ({"id_column": "key"}, "no column 'key' for the ids"),
    ):
        with pytest.raises(InputError, match=message):
            rows_of(table, **options)


def test_views_may_have_columns_of_their_own(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    table = write(tmp_path / "t.csv", "id,image,image_2,image_3\np,a.jpg,b.jpg,c.jpg\nq,c.jpg,,\nr,a.jpg,gone.jpg,\n")
    assert open_sources([table]).num_views == 3
    assert [(row.image_id, row.contents, row.problem) for row in rows_of(table)] == [
        ("p", (b"a", b"b", b"c"), ""),
        ("q", (b"c",), ""),
        ("r", (b"a", None), "fetch_failed"),
    ]
    assert [len(item.views) for item in list_inputs([table])] == [3, 1, 2]


def test_rows_that_are_views_of_one_item_come_together(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    table = write(tmp_path / "t.csv", "place,uri\np,a.jpg\nq,b.jpg\np,c.jpg\n")
    sources = open_sources([table], SourceOptions(views_by="place"))
    rows = [row for shard in sources.shards() for row in shard.rows()]
    assert (sources.num_views, sources.num_rows) == (2, 2)
    assert [(row.image_id, row.contents) for row in rows] == [("p", (b"a", b"c")), ("q", (b"b",))]


def test_ids_that_are_there_twice_are_found_before_anything_is_read(tmp_path):
    first = write(tmp_path / "a.csv", "id,uri\n" + "".join(f"{n},{n}.jpg\n" for n in range(3000)))
    second = write(tmp_path / "b.jsonl", '{"id": 2999, "uri": "x.jpg"}\n')
    assert open_sources([first]).num_rows == 3000
    with pytest.raises(InputError, match=r"b\.jsonl: the id '2999' is there twice"):
        open_sources([first, second])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", '{"path": ["a.jpg"],\n"id": [1]}', "an array of objects, or an object a line"),
        ("t.json", '[{"path": "a.jpg"}', "can't be read"),
        ("t.parquet", "no parquet", "can't be read|neither"),
    ],
)
def test_a_table_that_can_not_be_read_is_named(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message) as caught:
        rows_of(write(tmp_path / name, content))
    assert name in str(caught.value)


def test_quotes_commas_and_line_ends_in_tables(tmp_path):
    names = ["a, b.jpg", 'say "hi".jpg', "two\nlines.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    quoted = ['"a, b.jpg"', '"say ""hi"".jpg"', '"two\nlines.jpg"']
    table = write(tmp_path / "t.csv", "\r\n".join(['"id","path"', *(f"{n},{q}" for n, q in enumerate(quoted))]))
    assert [row.contents[0].decode() for row in rows_of(table)] == names
    assert [row.image_id for row in rows_of(write(tmp_path / "list.txt", "x.jpg\na, b.jpg\n"))] == ["x.jpg", "a, b.jpg"]


def test_a_manifest_and_images_on_a_web_server(inside):
    pages = {
        "lists/t.csv": lambda h: h.reply(body=f"uri\nsub/a.jpg\n/etc/passwd\n{inside}/in.jpg\n../b.jpg\n".encode()),
        "lists/sub/a.jpg": lambda h: h.reply(body=b"a"),
        "b.jpg": lambda h: h.reply(body=b"b"),
    }
    with serving(pages) as server:
        rows = rows_of(f"{server.url}/lists/t.csv?token=1", fetch=policy())
        (single,) = rows_of(f"{server.url}/b.jpg?token=1", fetch=policy())
    assert [row.contents for row in rows] == [(b"a",), (None,), (None,), (b"b",)]
    assert [row.problem for row in rows] == ["", "blocked_path", "blocked_path", ""]
    assert (single.image_id, single.contents) == ("b.jpg", (b"b",))


def test_bad_rows_are_rows_with_a_problem_and_have_ids(inside):
    table = write(inside / "t.csv", "id,path\n1,in.jpg\n2,\n,in.jpg\n")
    assert [(row.image_id, row.problem) for row in rows_of(table)] == [("1", ""), ("2", "no_image"), ("(row 3)", "")]
    table = write(inside / "t.jsonl", '{"path": "in.jpg"}\n{"path": 7\n')
    assert [(row.image_id, row.problem) for row in rows_of(table)] == [("in.jpg", ""), ("(row 2)", "no_image")]


def test_a_path_that_is_there_twice_has_two_ids(inside):
    lists = [write(inside / name, "in.jpg\nsub/gone.jpg\nin.jpg\n") for name in ("a.txt", "b.txt")]
    sources = open_sources(lists)
    rows = [row for shard in sources.shards() for row in shard.rows()]
    assert [row.image_id for row in rows] == [
        "in.jpg", "sub/gone.jpg", "in.jpg~2", "in.jpg~3", "sub/gone.jpg~2", "in.jpg~4"
    ]  # fmt: skip
    table = write(inside / "c.csv", "path\nin.jpg\nsub/gone.jpg\nin.jpg\n")
    assert [item.image_id for item in list_inputs([table])] == ["in.jpg", "sub/gone.jpg", "in.jpg~2"]


def test_files_are_found_under_the_names_that_other_systems_give_them(tmp_path):
    (tmp_path / "sub").mkdir()
    apart, together = "nai\u0308ve.jpg", "na\u00efve2.jpg"
    for name in (apart, together, "sub/e.jpg", "back\\slash.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    lines = ["na\u00efve.jpg", "nai\u0308ve2.jpg", r"sub\e.jpg", r".\sub\e.jpg", r"back\slash.jpg", r"C:\photos\a.jpg"]
    rows = rows_of(write(tmp_path / "t.csv", "path\n" + "\n".join(lines) + "\n"))
    found = [row.contents[0] and row.contents[0].decode() for row in rows]
    assert found == [apart, together, "sub/e.jpg", "sub/e.jpg", "back\\slash.jpg", None]
    assert rows[-1].problem == "fetch_failed"
