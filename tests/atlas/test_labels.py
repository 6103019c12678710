"""Labels, their captions, and their file."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from geo_ray.atlas.labels import (
    Labels,
    caption,
    first_repeat,
    load_labels,
    mean_of_members,
    to_ascii,
    with_templates,
    write_labels,
)
from geo_ray.errors import InputError
from geo_ray.geo.sphere import great_circle_km


def text(*values):
    return np.array(values, dtype=object)


def example(**changes):
    """Two countries, a region, and two cities."""
    columns = {
        "ids": text("FR", "GE", "FR/IDF", "paris", "tbilisi"),
        "names": text("France", "Georgia", "Île-de-France", "Paris", "Tbilisi"),
        "levels": text("country", "country", "region", "city", "city"),
        "parents": np.array([-1, -1, 0, 2, 1]),
        "latlon": np.array([[47.0, 2.0], [42.0, 43.5], [48.7, 2.5], [48.86, 2.35], [41.7, 44.8]]),
        "countries": text("FR", "GE", "FR", "FR", "GE"),
        "regions": text("", "", "Île-de-France", "Île-de-France", ""),
        "texts": text("France", "Georgia", "region", "Paris", "Tbilisi"),
    }
    return Labels(**(columns | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": text("FR", "GE", "FR", "p", "t")}, "rows 0 and 2 have the same id 'FR'"),
        ({"ids": text("FR", "GE", "", "p", "t")}, r"ids of rows \[2\] are empty"),
        ({"texts": text("France", " ", "r", "p", "t")}, r"texts of rows \[1\] are empty"),
        ({"parents": np.array([-1, -1, 3, 2, 1])}, "the parent of row 2 is 3; it must be an earlier row"),
        ({"parents": np.array([-1, -1, 2, 2, 1])}, "the parent of row 2 is 2"),
        ({"parents": np.array([-1, -1, 0, 2, -2])}, "the parent of row 4 is -2"),
        (
            {"texts": text("France", "FRANCE ", "r", "p", "t")},
            "'FR' and 'GE' have the same parent and the same caption",
        ),
        ({"latlon": np.array([[91.0, 0], [0, 0], [0, 0], [0, 0], [0, 0]])}, "not finite degrees in range"),
        ({"latlon": np.array([[np.nan, 0], [0, 0], [0, 0], [0, 0], [0, 0]])}, "not finite degrees in range"),
    ],
)
def test_rules(changes, message):
    with pytest.raises(ValueError, match=message):
        example(**changes)


def test_labels_of_different_parents_may_share_a_caption():
    assert len(example(texts=text("France", "Georgia", "r", "Springfield", "Springfield"))) == 5


def test_there_must_be_a_label():
    none = {name: values[:0] for name, values in vars(example()).items()}
    with pytest.raises(ValueError, match="there are none"):
        Labels(**none)


def test_templates_fill_in_what_is_above():
    labels = with_templates(
        example(), {"region": "{name:ascii} of {parent}", "city": "{name} in {parent}, {country}, not {{x}}"}
    )
    assert labels.texts.tolist() == [
        "France",
        "Georgia",
        "Ile-de-France of France",
        "Paris in Île-de-France, France, not {x}",
        "Tbilisi in Georgia, Georgia, not {x}",
    ]


def test_the_country_is_the_label_above_or_else_that_of_the_code():
    labels = example(
        names=text("Gaul", "Georgia", "Île-de-France", "Paris", "Tbilisi"), parents=np.array([-1, -1, 0, 2, -1])
    )
    assert with_templates(labels, {"city": "{country}: {name}"}).texts[3:].tolist() == [
        "Gaul: Paris",
        "Georgia: Tbilisi",
    ]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({"village": "{name}"}, r"templates for \['village'\]: the labels' levels are \['city', 'country', 'region'\]"),
        ({"city": "{city}"}, r"'\{city\}' may hold \{name\}, \{parent\}, \{country\}, \{region\}"),
        ({"city": "{}"}, "may hold"),
        ({"city": "{name.__class__}"}, "may hold"),
        ({"city": "{name!r}"}, "may hold"),
        ({"city": "{name:>10}"}, "may hold"),
        ({"city": "{name"}, r"template '\{name'"),
        ({"city": "{region}"}, "'Tbilisi' has no region"),
        ({"country": "{parent}"}, "'France' has no parent"),
        ({"country": "a country"}, "the same caption 'a country'"),
    ],
)
def test_templates_that_can_not_be_filled(templates, message):
    with pytest.raises(ValueError, match=message):
        with_templates(example(), templates)


def test_caption_in_ascii():
    words = {"name": "Łódź", "parent": "", "country": "Poland", "region": ""}
    assert caption("{name:ascii} or {name}, {country}", words) == "Lodz or Łódź, Poland"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("São Paulo", "Sao Paulo"),
        ("Diyarbakır", "Diyarbakir"),
        ("Tromsø", "Tromso"),
        ("Gießen", "Giessen"),
        ("Xi’an", "Xi'an"),
        ("‘Aţārūt", "Atarut"),
        ("Az̧ Z̧āhirīyah", "Az Zahiriyah"),
        ("Đà Nẵng", "Da Nang"),
        ("Rouyn–Noranda", "Rouyn-Noranda"),
        ("Мирковци", "Мирковци"),
        ("Горњи Милановац й", "Горњи Милановац й"),
        ("서울", "서울"),
        ("", ""),
    ],
)
def test_to_ascii(name, plain):
    assert to_ascii(name) == plain


def test_first_repeat():
    assert first_repeat("abcb") == (1, 3)
    assert first_repeat("abc") is None
    assert first_repeat([]) is None


def test_mean_of_members_over_the_antimeridian():
    latlon = np.array([[0.0, 179.0], [0.0, -179.0], [10.0, 5.0], [80.0, 0.0]])
    found = mean_of_members(latlon, np.array([1, 1, 0, -1]), 2)
    np.testing.assert_allclose(great_circle_km(found, np.array([[10.0, 5.0], [0.0, 180.0]])), 0, atol=1e-6)


def test_labels_come_back_from_their_file(tmp_path):
    labels = example()
    write_labels(labels, tmp_path / "labels.parquet")
    loaded = load_labels(tmp_path / "labels.parquet")
    for name, values in vars(labels).items():
        assert getattr(loaded, name).dtype == values.dtype
        np.testing.assert_array_equal(getattr(loaded, name), values, err_msg=name)


def test_a_file_that_is_none(tmp_path):
    path = tmp_path / "labels.parquet"
    with pytest.raises(InputError, match=r"labels\.parquet is not a table of labels"):
        load_labels(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="is not a table of labels"):
        load_labels(path)


def test_a_table_that_breaks_the_rules(tmp_path):
    path = tmp_path / "labels.parquet"
    write_labels(example(), path)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns("text"), path)
    with pytest.raises(InputError, match="text"):
        load_labels(path)
    pq.write_table(table.take([0, 0]), path)
    with pytest.raises(InputError, match="rows 0 and 1 have the same id"):
        load_labels(path)
    pq.write_table(table.set_column(1, "name", [["a", "b", None, "d", "e"]]), path)
    with pytest.raises(InputError, match="empty values"):
        load_labels(path)
