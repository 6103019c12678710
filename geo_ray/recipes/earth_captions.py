"""A small CLIP on overhead crops with captions, some countries held out of training. Verified on 2 CPU cores."""

from geo_ray.models.bundle import EncoderSpec
from geo_ray.train.caption_config import CaptionConfig


def earth_captions() -> tuple[CaptionConfig, EncoderSpec]:
    """The training run and the encoder of ``earth-captions``: sized for 10 minutes in all on 2 cores."""
    config = CaptionConfig(num_steps=1500)
    encoder = EncoderSpec(
        architecture=config.tower, image_size=config.image_size, num_features=config.num_features, micro_batch=16
    )
    return config, encoder
