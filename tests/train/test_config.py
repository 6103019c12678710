"""Settings of a training run."""

import pytest

from geo_ray.recipes.earth_tiny import earth_tiny
from geo_ray.train.config import TrainConfig


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"places_per_step": 30}, "places_per_step=30 must be a multiple of the 4 offsets_km"),
        ({"places_per_step": 0}, "places_per_step=0 must be positive"),
        ({"offsets_km": ()}, "must be one or more distances"),
        ({"num_steps": 0}, "num_steps=0 must be positive"),
        ({"tau_km": -1.0}, r"tau_km=-1\.0 must be positive"),
        ({"warmup_share": 1.0}, r"warmup_share=1\.0 must be from 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        TrainConfig(**wrong)


def test_a_misspelt_reference_is_refused():
    config = TrainConfig()
    object.__setattr__(config, "target_reference", "nearst")  # as where no type checker looks
    with pytest.raises(ValueError, match="target_reference='nearst'"):
        config.__post_init__()


def test_the_recipe_agrees_with_its_encoder():
    config, encoder = earth_tiny()
    assert encoder.architecture == config.tower
    assert (encoder.image_size, encoder.num_features) == (config.image_size, config.num_features)
