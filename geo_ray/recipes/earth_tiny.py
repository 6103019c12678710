"""The bundle that ships: a small tower on overhead crops of the Blue Marble. Verified on 2 CPU cores with bfloat16."""

from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.train.config import TrainConfig


def earth_tiny() -> tuple[TrainConfig, EncoderSpec]:
    """The training run and the encoder of ``earth-tiny``: sized for 20 minutes in all on 2 cores."""
    config = TrainConfig()
    encoder = EncoderSpec(
        architecture=config.tower, image_size=config.image_size, num_features=config.num_features, micro_batch=16
    )
    return config, encoder
