"""Tables of text as spreadsheets, Windows, Macs and people write them: the same rows come of all."""

import bz2
import gzip
import json

import pytest

from geo_ray.errors import InputError
from geo_ray.tables.text import column_names, number, read_pieces

COLUMNS = {"uri": ("path", "url"), "id": ("id",)}


def rows_of(tmp_path, content, name="t.csv", **options):
    """The rows, each with its id where there are any."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    pieces = list(read_pieces(str(path), COLUMNS, **options))
    assert all(len({len(values) for values in piece.values()}) == 1 for piece in pieces)
    ids = [one for piece in pieces for one in piece.get("id", [])]
    uris = [one for piece in pieces for one in piece["uri"]]
    return list(zip(ids, uris, strict=True)) if ids else uris


TWO = "id,path\n1,a.jpg\n2,é.jpg\n"
ROWS = [("1", "a.jpg"), ("2", "é.jpg")]


@pytest.mark.parametrize(
    "content",
    [
        TWO.encode("utf-8"), TWO.encode("utf-8-sig"), TWO.encode("utf-16"), TWO.encode("utf-16-le"),
        TWO.encode("utf-16-be"), TWO.encode("utf-32"), TWO.encode("latin-1"), TWO.encode("cp1252"),
        TWO.replace("\n", "\r\n").encode(), TWO.replace("\n", "\r").encode(), TWO.replace("\n", "\n\n").encode(),
        TWO.replace(",", ";").encode(), TWO.replace(",", "\t").encode(), TWO[:-1].encode(),
        TWO.replace("\n", ",\n").encode(), TWO.replace(",", ", ").encode(), TWO.replace(",", " , ").encode(),
        TWO.replace(",", ';" ').replace("\n", ' " \n').encode(), 'id,"path" \n1,"a.jpg"  \n2, "é.jpg"\n'.encode(),
        'ID , PATH\n1,a.jpg \n2, é.jpg\n'.encode(),
    ],
)  # fmt: skip
def test_one_table_in_many_forms(tmp_path, content):
    assert rows_of(tmp_path, content) == ROWS


def test_one_odd_letter_late_in_a_file_spoils_no_other(tmp_path):
    many = "".join(f"{n},ü{n}.jpg\n" for n in range(50_000))
    found = rows_of(tmp_path, ("id,path\n" + many).encode() + "x,é.jpg\n".encode("latin-1"))
    assert found[-2:] == [("49999", "ü49999.jpg"), ("x", "é.jpg")]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_tables(tmp_path, pack):
    name = "t.csv.gz" if pack is gzip.compress else "t.csv.bz2"
    assert rows_of(tmp_path, pack(TWO.encode("utf-16")), name) == ROWS


@pytest.mark.parametrize(
    "names",
    [
        ["Paris, Texas.jpg", "a.jpg", "b.jpg"],
        ["Paris, Texas.jpg", "Rome, Italy.jpg"],
        ["a, b, c.jpg", "d, e.jpg"],
        ["a.jpg", "Paris, Texas.jpg"],
        ["sub/Paris, Texas.jpg", "sub/x; y.jpg"],
    ],
)
def test_a_list_of_names_with_commas_is_a_list(tmp_path, names):
    assert rows_of(tmp_path, "\n".join(names), "list.txt") == names
    assert rows_of(tmp_path, "\n".join(f'"{name}"' for name in names), "list.txt") == names
    assert rows_of(tmp_path, "\n".join(["path", *names]), "list.csv") == names


def test_a_list_is_known_by_files_that_are_called_so(tmp_path):
    lines = "1,a.jpg\n2,b.jpg"
    assert rows_of(tmp_path, lines, "list.txt") == [("1", "a.jpg"), ("2", "b.jpg")]
    assert rows_of(tmp_path, lines, "list.txt", is_there=lambda name: name == "1,a.jpg") == ["1,a.jpg", "2,b.jpg"]


def test_a_last_column_of_names_may_have_the_delimiter(tmp_path):
    assert rows_of(tmp_path, "id,path\n1,Paris, Texas.jpg\n2,b.jpg\n") == [("1", "Paris, Texas.jpg"), ("2", "b.jpg")]


def test_quotes_in_tabbed_tables_are_letters_unless_they_hold_tabs(tmp_path):
    text = 'id\tpath\ttitle\n1\ta.jpg\tplain\n2\tb.jpg\t"open quote\n3\tc d.jpg\tmiddle\n4\te.jpg\tclosing"\n'
    assert [image_id for image_id, _ in rows_of(tmp_path, text, "t.tsv")] == ["1", "2", "3", "4"]
    assert rows_of(tmp_path, 'id\tpath\n1\t"a\tb.jpg"\n2\t"c.jpg"\n', "t.tsv") == [("1", "a\tb.jpg"), ("2", "c.jpg")]
    assert rows_of(tmp_path, 'id\tpath\n1\t"c ""d"".jpg"\n', "t.tsv") == [("1", 'c "d".jpg')]


def test_a_quote_that_nothing_closes_swallows_no_row(tmp_path):
    found = rows_of(tmp_path, 'id,path\n1,a.jpg\n2,"b.jpg\n3,c.jpg\n4,d.jpg\n')
    assert [image_id for image_id, _ in found] == ["1", "2", "3", "4"]


def test_a_cell_may_go_on_over_lines(tmp_path):
    assert rows_of(tmp_path, 'id,path\n1,"two\nlines.jpg"\n2,b.jpg\n') == [("1", "two\nlines.jpg"), ("2", "b.jpg")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "id,path\n1,a.jpg\n2,\n3,b.jpg\n"),
        ("t.csv", "id,path\n1,a.jpg\n2\n3,b.jpg\n"),
        ("t.jsonl", '{"id": 1, "path": "a.jpg"}\n{"id": 2}\n{"id": 3, "path": "b.jpg"}\n'),
        ("t.jsonl", '{"id": 1, "path": "a.jpg"}\n{"id": 2, "path": null}\n{"path": "b.jpg", "id": 3}\n'),
        ("t.json", json.dumps([{"id": 1, "path": "a.jpg"}, {"id": 2}, {"id": 3, "path": "b.jpg"}])),
        ("t.json", json.dumps([{"id": 1, "path": "a.jpg"}, {"id": 2}, {"id": 3, "path": "b.jpg"}], indent=2)),
        ("t.json", '{"images":\n[{"id": 1, "path": "a.jpg"}, {"id": 2}, {"id": 3, "path": "b.jpg"}]}'),
    ],
)  # fmt: skip
def test_a_row_that_names_nothing_is_a_row(tmp_path, name, content):
    assert rows_of(tmp_path, content, name) == [("1", "a.jpg"), ("2", ""), ("3", "b.jpg")]


@pytest.mark.parametrize("bad", ["[1]", '{"path": ', "null", "no json"])
def test_a_line_that_is_no_object_is_a_row_of_nothing(tmp_path, bad):
    content = f'{{"id": 1, "path": "a.jpg"}}\n{bad}\n{{"id": 3, "path": "b.jpg"}}\n'
    assert rows_of(tmp_path, content, "t.jsonl") == [("1", "a.jpg"), ("", ""), ("3", "b.jpg")]


@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_of_columns_is_refused(tmp_path, indent):
    with pytest.raises(InputError, match="an array of objects"):
        rows_of(tmp_path, json.dumps({"path": ["a.jpg"], "id": [1]}, indent=indent), "t.json")


def test_one_object_and_an_array_of_names(tmp_path):
    assert rows_of(tmp_path, '{"id": 1, "path": "a.jpg"}\n', "t.jsonl") == [("1", "a.jpg")]
    assert rows_of(tmp_path, json.dumps(["a.jpg", "b, c.jpg", None]), "t.json") == ["a.jpg", "b, c.jpg", ""]


def test_excels_word_on_the_delimiter_is_no_header(tmp_path):
    assert rows_of(tmp_path, "sep=;\r\n" + TWO.replace(",", ";")) == ROWS


def test_what_the_columns_are_called(tmp_path):
    (tmp_path / "t.csv").write_text('"a" , b\n1,2\n')
    assert column_names(str(tmp_path / "t.csv")) == ["a", "b"]


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("-48,85", -48.85), ("1e3", 1000.0), (",5", 0.5)])
def test_numbers(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["north", "1,234.5", "1,2,3"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match=r".+"):
        number(text)
