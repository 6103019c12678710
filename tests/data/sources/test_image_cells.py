"""Images in tables, in the types that people store them as."""

import base64

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geo_ray.data.sources import SourceOptions, open_sources
from geo_ray.errors import InputError
from tests.crops import jpeg_crops

ONE, TWO = jpeg_crops(2)


def as_base64(content):
    return base64.b64encode(content).decode()


def struct(content, path="x.jpg"):
    return {"bytes": content, "path": path}


FLAT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FORMS = {
    "binary": pa.array([ONE, TWO], pa.binary()),
    "large binary": pa.array([ONE, TWO], pa.large_binary()),
    "binary view": pa.array([ONE, TWO], pa.binary_view()),
    "dictionary": pa.array([ONE, TWO]).dictionary_encode(),
    "struct": pa.array([struct(ONE, "x"), struct(TWO, "y")], FLAT),
    "numbers": pa.array([list(ONE), list(TWO)], pa.list_(pa.uint8())),
    "signed numbers": pa.array([[b - 256 if b > 127 else b for b in c] for c in (ONE, TWO)], pa.list_(pa.int8())),
    "large list of numbers": pa.array([list(ONE), list(TWO)], pa.large_list(pa.uint8())),
    "struct of numbers": pa.array([{"bytes": list(ONE)}, {"bytes": list(TWO)}]).cast(
        pa.struct([("bytes", pa.list_(pa.uint8()))])
    ),
    "list of one struct": pa.array([[struct(ONE)], [struct(TWO)]], pa.list_(FLAT)),
    "list of one": pa.array([[ONE], [TWO]], pa.list_(pa.binary())),
    "base64": pa.array([as_base64(ONE), as_base64(TWO)]),
    "base64 for URLs": pa.array([base64.urlsafe_b64encode(c).decode().rstrip("=") for c in (ONE, TWO)]),
    "base64 in lines": pa.array([base64.encodebytes(c).decode() for c in (ONE, TWO)], pa.large_string()),
    "data: URIs": pa.array([f"data:image/jpeg;base64,{as_base64(c)}" for c in (ONE, TWO)]),
    "dictionary of base64": pa.array([as_base64(ONE), as_base64(TWO)]).dictionary_encode(),
}


def rows_of(tmp_path, column, name="image", **options):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({name: column, "id": ["x", "y"]}), path)
    sources = open_sources([str(path)], SourceOptions(**options))
    return sources, [row for shard in sources.shards() for row in shard.rows()]


@pytest.mark.parametrize("form", FORMS)
def test_images_are_read_from_every_type(tmp_path, form):
    sources, rows = rows_of(tmp_path, FORMS[form])
    assert sources.sources[0].kind == "parquet"
    assert [row.image_id for row in rows] == ["t.parquet#x", "t.parquet#y"]
    assert [(row.contents, row.problem) for row in rows] == [((ONE,), ""), ((TWO,), "")]


def test_several_images_of_a_cell_are_views_of_one_item(tmp_path):
    sources, rows = rows_of(tmp_path, pa.array([[struct(ONE), struct(TWO)], [struct(TWO)]], pa.list_(FLAT)))
    assert sources.num_views == 8
    assert [row.contents for row in rows] == [(ONE, TWO), (TWO,)]
    assert [len(row.uris) for row in rows] == [2, 1]


def test_more_images_than_an_item_may_have_are_a_problem(tmp_path):
    _, rows = rows_of(tmp_path, pa.array([[ONE] * 9, [TWO]], pa.list_(pa.binary())))
    assert [row.problem for row in rows] == ["too_large", ""]


@pytest.mark.parametrize("cell", ["", None])
def test_a_cell_without_an_image_is_a_problem(tmp_path, cell):
    _, rows = rows_of(tmp_path, pa.array([as_base64(ONE), cell]))
    assert [row.problem for row in rows] == ["", "fetch_failed"]


@pytest.mark.parametrize("kind", [pa.int64(), pa.null(), pa.list_(pa.float64()), pa.struct([("a", pa.int64())])])
@pytest.mark.parametrize("named", [True, False])
def test_a_type_that_can_hold_none_is_named(tmp_path, kind, named):
    options = {"image_column": "image"} if named else {}
    with pytest.raises(InputError, match=r"image \(.*\) can hold neither images nor paths"):
        rows_of(tmp_path, pa.array([None, None], kind), **options)


def test_texts_that_are_paths_stay_paths(tmp_path):
    for name in ("x.jpg", "y.jpg"):
        (tmp_path / name).write_bytes(ONE)
    sources, rows = rows_of(tmp_path, pa.array(["x.jpg", "y.jpg"]))
    assert sources.sources[0].kind == "table"
    assert [row.contents for row in rows] == [(ONE,), (ONE,)]
