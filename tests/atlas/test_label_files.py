"""A user's own labels."""

import numpy as np
import pytest

from geo_ray.atlas.label_files import read_labels
from geo_ray.errors import InputError
from geo_ray.geo.sphere import great_circle_km

FULL = """id,name,parent,latitude,longitude,level,country,region,text,template
louvre,Louvre,paris,48.8606,2.3376,museum,,,,"A photo of {name} in {parent}, {country}"
paris,Paris,FR,,,,,Île-de-France,,
orsay,Musée d'Orsay,paris,48.86,2.3266,museum,,,The Orsay museum,
FR,France,,46.5,2.5,,FR,,,
"""


def written(tmp_path, content):
    path = tmp_path / "own.csv"
    path.write_text(content, encoding="utf-8")
    return path


def test_all_columns_in_any_order_of_rows(tmp_path):
    labels = read_labels(written(tmp_path, FULL))
    assert labels.ids.tolist() == ["FR", "paris", "louvre", "orsay"]
    assert labels.parents.tolist() == [-1, 0, 1, 1]
    assert labels.levels.tolist() == ["country", "region", "museum", "museum"]
    assert labels.countries.tolist() == ["FR"] * 4
    assert labels.regions.tolist() == ["", "Île-de-France", "Île-de-France", "Île-de-France"]
    assert labels.texts.tolist() == [
        "A Street View photo in France.",
        "A Street View photo in Paris, France.",
        "A photo of Louvre in Paris, France",
        "The Orsay museum",
    ]
    np.testing.assert_array_equal(labels.latlon[[0, 2]], [[46.5, 2.5], [48.8606, 2.3376]])
    assert great_circle_km(labels.latlon[1], np.array([48.8603, 2.3321])) < 0.01, "between its two museums"


def test_names_alone(tmp_path):
    """As a spreadsheet saves it: with a byte order mark, and lines that end as on Windows."""
    labels = read_labels(written(tmp_path, "\ufeffname,latitude,longitude\r\nBerlin,52.5,13.4\r\nRome, 41.9,12.5\r\n"))
    assert labels.ids.tolist() == ["Berlin", "Rome"]
    assert labels.texts.tolist() == ["A Street View photo in Berlin.", "A Street View photo in Rome."]


def test_a_parent_lies_at_the_mean_of_all_childless_labels_below_it(tmp_path):
    """Three labels count as three, whichever label is between; over the antimeridian."""
    content = "name,parent,latitude,longitude\nF,,,\nW,F,,\nE,F,0,-179\nW1,W,0,178\nW2,W,0,179\n"
    labels = read_labels(written(tmp_path, content))
    found = dict(zip(labels.ids, labels.latlon, strict=True))
    expected = {"F": 179.333333, "W": 178.5}
    for name, longitude in expected.items():
        assert great_circle_km(found[name], np.array([0.0, longitude])) < 0.1


def test_two_of_one_name_have_ids(tmp_path):
    content = "id,name,latitude,longitude,text\n1,Paris,48.9,2.4,Paris in France\n2,Paris,33.7,-95.6,Paris in Texas\n"
    assert read_labels(written(tmp_path, content)).ids.tolist() == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: no column `name`"),
        ("name,latitude,longitude\n", "has no labels"),
        ("id,latitude,longitude\na,1,2\n", "line 1: no column `name`"),
        ("name,lat,lon\na,1,2\n", r"line 1: unknown columns \['lat', 'lon'\]; it may have id, name, parent, latitude"),
        ("name,name,latitude,longitude\na,b,1,2\n", "line 1: the column 'name' occurs twice"),
        ("name,latitude,longitude\na,1,2\n ,1,2\n", "line 3: the name is empty"),
        ("name,latitude,longitude\na,1,2,3\n", "line 2: more or fewer fields"),
        ("name,latitude,longitude\na,1\n", "line 2: more or fewer fields"),
        ("name,latitude,longitude\na,91,2\n", r"line 2: latitude '91', longitude '2' must be degrees in \[-90, 90\]"),
        ("name,latitude,longitude\na,nan,2\n", "line 2: latitude 'nan'"),
        ("name,latitude,longitude\na,1,inf\n", "longitude 'inf'"),
        ("name,latitude,longitude\na,1,-180.5\n", "longitude '-180.5'"),
        ("name,latitude,longitude\na,48° N,2\n", "latitude '48° N'"),
        ("name,latitude,longitude\na,1,\n", "line 2: latitude '1', longitude ''"),
        ("name,latitude,longitude\na,1,2\nb,,\n", "line 3: 'b' has no children, so it needs a latitude"),
        ("name\na\n", "line 2: 'a' has no children"),
        ("name,latitude,longitude\na,1,2\nb,1,2\na,3,4\n", "line 4: shares with line 2 the id 'a'"),
        ("name,parent,latitude,longitude\na,x,1,2\n", "line 2: no label has the id 'x' of its parent"),
        (
            "name,parent,latitude,longitude\nr,,1,2\na,b,1,2\nb,c,1,2\nc,a,1,2\n",
            "line 3: the parents of 'a' lead around",
        ),
        ("name,parent,latitude,longitude\na,a,1,2\n", "line 2: the parents of 'a' lead around"),
        ("name,latitude,longitude,country\na,1,2,France\n", "line 2: country 'France' is no ISO 3166 alpha-2 code"),
        ("name,latitude,longitude,text,template\na,1,2,b,c\n", "line 2: a text and a template"),
        ("name,latitude,longitude,level\na,1,2,museum\n", "line 2: no text and no template, .* level 'museum'"),
        ("name,latitude,longitude,template\na,1,2,{city}\n", r"line 2: template '\{city\}' may hold .*; give a text"),
        ("name,latitude,longitude,template\na,1,2,{region}\n", "line 2: .*'a' has no region"),
        (
            "name,latitude,longitude,text\na,1,2,x\nb,1,2,X\n",
            "line 3: shares with line 2 one parent and the caption 'x'",
        ),
        ('name,latitude,longitude\n"a,1,2\n', "is not a readable CSV file of labels in UTF-8"),
    ],
)
def test_each_error_names_file_and_remedy(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"own\.csv.*{message}"):
        read_labels(written(tmp_path, content))


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(InputError, match=r"own\.csv is not a readable CSV"):
        read_labels(tmp_path / "own.csv")
    (tmp_path / "own.csv").write_bytes(b"name\n\xff\xfe")
    with pytest.raises(InputError, match=r"own\.csv is not a readable CSV"):
        read_labels(tmp_path / "own.csv")
