"""Recipes by name: the papers' settings, changes of them, and what is said before a run."""

import dataclasses
import json

import pytest

from geo_ray import recipes
from geo_ray.cells.semantic import PARAMETERS
from geo_ray.errors import InputError, OutputError
from geo_ray.recipes import RECIPES, Recipe, configured, find_recipe, run_recipe, small_encoder
from geo_ray.recipes.papers import pigeon, pigeon_clip, pigeotto, pigeotto_clip, streetclip
from geo_ray.recipes.plan import plan_text
from geo_ray.recipes.settings import with_settings
from geo_ray.train.chain import Place
from geo_ray.train.config import Scale
from geo_ray.train.run_card import curves_page, write_card
from tests.models.checkpoint_files import TINY, write_hugging_face
from tests.train.tables import image_table


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_a_configuration_and_its_hardware(name):
    config = find_recipe(name).settings()
    assert dataclasses.is_dataclass(config)
    assert find_recipe(name).hardware
    json.dumps(dataclasses.asdict(config))


def test_small_encoders_agree_with_their_towers():
    config = find_recipe("earth-captions").settings()
    encoder = small_encoder(config)
    assert encoder.architecture == config.tower
    assert (encoder.image_size, encoder.num_features) == (config.image_size, config.num_features)


def test_the_papers_settings():
    """PIGEON's tables 4 to 6."""
    for config, rate, warmup, epochs in ((pigeon_clip(), 1e-6, 0.2, 3), (pigeotto_clip(), 5e-7, 0.02, 2)):
        assert (config.learning_rate, config.weight_decay, config.betas, config.eps) == (rate, 1e-3, (0.9, 0.98), 1e-6)
        assert (config.schedule, config.max_grad_norm, config.seed) == ("linear", 1.0, 42)
        assert config.warmup_share * epochs == pytest.approx(warmup)
        assert config.epochs == epochs
        assert config.batch_size // config.accumulation // 4 == 32
        assert config.reference_size == 32
    assert streetclip().batch_size == 32 * 12 * 3
    for chain, tau, top, temperature, km in ((pigeon(), 75, 5, 1.6, 1000), (pigeotto(), 65, 40, 0.6, 20100)):
        assert (chain.head.tau_km, chain.head.batch_size, chain.head.learning_rate) == (tau, 256, 2e-5)
        assert (chain.head.weight_decay, chain.head.betas, chain.head.normalize_targets) == (0.01, (0.9, 0.999), False)
        assert (chain.start.num_cells, chain.start.temperature, chain.start.max_distance_km) == (top, temperature, km)
        assert chain.features == "tokens"
    assert (pigeon().num_views, pigeotto().num_views) == (4, 1)
    assert (pigeon().cells, pigeotto().cells) == (PARAMETERS["pigeon"], PARAMETERS["pigeotto"])
    assert (pigeotto().clustering.min_samples, pigeotto().clustering.xi) == (10, 0.1)


def test_settings_are_changed_by_name():
    changes = ["head.learning_rate=1e-3", "num_views=2", "checkpoint=clip/model", "head.smoothing=false",
               "head.frozen=tower.*,head.bias", "cells.sizes.max_size=90", "head.epochs=3",
               "head.betas=(0.8, 0.9)"]  # fmt: skip
    config = with_settings(pigeon(), changes)
    assert (config.head.learning_rate, config.num_views, config.checkpoint) == (1e-3, 2, "clip/model")
    assert (config.head.smoothing, config.head.frozen) == (False, ("tower.*", "head.bias"))
    assert (config.cells.sizes.max_size, config.head.epochs, config.head.betas) == (90, 3.0, (0.8, 0.9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("learning_rate", "must be NAME=VALUE"),
        ("head.rate=1", "there is no setting 'rate'; there are seed, num_steps"),
        ("num_views=two", "'two' must be a number"),
        ("num_views=1.5", r"'1\.5' must be a number"),
        ("head.covariates=maybe", "must be true or false"),
        ("head.tau_km=-1", "tau_km=-1.0 must be positive"),
        ("checkpoint.x=1", "checkpoint has no settings of its own"),
    ],
)
def test_changes_that_cannot_be_are_named(change, message):
    with pytest.raises(InputError, match=message):
        with_settings(pigeon(), [change])


def test_an_unknown_recipe_and_a_missing_table_are_named(tmp_path):
    with pytest.raises(InputError, match="no recipe 'earth'; there are: earth-tiny, earth-captions, smoke, streetclip"):
        find_recipe("earth")
    with pytest.raises(InputError, match="name a training table with --table; geo-ray table builds one"):
        configured("pigeon")
    with pytest.raises(InputError, match="is no training table"):
        configured("pigeon", table=str(tmp_path))


def test_a_run_writes_its_configuration_first_and_refuses_another(tmp_path, monkeypatch):
    seen = []

    def build(config, output, place):
        seen.append((config, json.loads((output / "config.json").read_text())))
        return output / "bundle"

    settings = RECIPES["earth-captions"].settings
    monkeypatch.setattr(recipes, "write_card", lambda *arguments: None)
    monkeypatch.setitem(
        recipes.RECIPES, "earth-captions", Recipe(settings=settings, build=build, hardware="x", streams=False)
    )
    assert run_recipe("earth-captions", tmp_path / "run") == tmp_path / "run" / "bundle"
    ((config, written),) = seen
    assert config == settings()
    wanted = {"recipe": "earth-captions", "table": "", **dataclasses.asdict(config)}
    assert written == json.loads(json.dumps(wanted))
    with pytest.raises(OutputError, match=r"made with other settings .num_steps: 1300 before, 5 now.; name another"):
        run_recipe("earth-captions", tmp_path / "run", changes=["num_steps=5"])


def test_a_plan_says_what_would_be_done(tmp_path, ray_session):
    table = image_table(tmp_path / "t")
    checkpoint = write_hugging_face(tmp_path / "clip", TINY)
    changes = [f"checkpoint={checkpoint}", "batch_size=16", "accumulation=2", "epochs=4"]
    config = configured("pigeon-clip", changes, table)
    said = plan_text("pigeon-clip", config, Place(table=table, scale=Scale(threads_per_worker=1)))
    assert "data: 48 training images, 8 for validation" in said
    assert "steps: 12 of 16 pairs, 8 at a time on each of 1 workers" in said
    assert "parameters: " in said
    assert "GiB of weights, gradients and moments" in said
    assert "pairs/s a worker, measured on 3 steps" in said
    assert "cluster: has room" in said
    large = Place(table=table, scale=Scale(num_workers=64))
    assert "cluster: LACKS ROOM: 64 workers of 2 CPUs and 1 for the data need 129 CPUs, Ray has 4" in plan_text(
        "pigeon", pigeon(), large
    )


def test_a_card_and_curves(tmp_path):
    lines = [{"step": step, "total": 1 / step, "time": 0.0} for step in (1, 2, 3)]
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = curves_page(tmp_path)
    assert page.count("<svg") == 1
    assert "<h2>head</h2>" in page
    assert "<figcaption>total</figcaption>" in page
    at = {"25": 0.5, "200": 0.75}
    found = {"median_error_km": 12.3, "accuracy_at_km": at}
    (tmp_path / "metrics.json").write_text(
        json.dumps({"refined": found, "cell_centre": found, "num_images": 9, "num_places": 3})
    )
    from geo_ray.models.bundle import shipped_bundles

    write_card("smoke", "2 CPU cores", tmp_path, shipped_bundles()["earth-tiny"])
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "| refined | 12.3 | 50.0% | 75.0% |" in card
    assert "Not for finding people" in card
    assert (tmp_path / "training.html").exists()
