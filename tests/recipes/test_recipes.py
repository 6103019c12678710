"""Recipes by name, and that their parts agree."""

import dataclasses
import json

import pytest

from geo_ray import recipes
from geo_ray.errors import InputError
from geo_ray.recipes import RECIPES, Recipe, find_recipe, run_recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_agrees_with_its_encoder(name):
    config, encoder = find_recipe(name).settings()
    assert encoder.architecture == config.tower
    assert (encoder.image_size, encoder.num_features) == (config.image_size, config.num_features)


def test_an_unknown_recipe_is_refused_by_name():
    with pytest.raises(InputError, match="no recipe 'earth'; there are: earth-tiny, earth-captions"):
        find_recipe("earth")


def test_a_run_writes_its_configuration_first(tmp_path, monkeypatch):
    seen = []

    def build(config, encoder, output):
        seen.append((config, encoder, json.loads((output / "config.json").read_text())))

    settings = RECIPES["earth-captions"].settings
    monkeypatch.setitem(recipes.RECIPES, "earth-captions", Recipe(settings=settings, build=build))
    assert run_recipe("earth-captions", tmp_path / "run") == tmp_path / "run" / "bundle"
    ((config, encoder, written),) = seen
    assert (config, encoder) == settings()
    assert written == json.loads(json.dumps(dataclasses.asdict(config)))
