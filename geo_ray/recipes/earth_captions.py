"""A small CLIP on overhead crops with captions, some countries held out of training. Verified on 2 CPU cores."""

from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.train.caption_config import CaptionConfig


def earth_captions() -> tuple[CaptionConfig, EncoderSpec]:
    """The training run and the encoder of ``earth-captions``: sized for 10 minutes in all on 2 cores.

    No crop is centred in a held-out country; those of its neighbours show its edges. With ``apart_km=300`` not a pixel
    of it is seen, and the image tower hardly knows where such a crop could lie.
    """
    config = CaptionConfig(num_steps=1300, apart_km=0.0, positives="equal")
    encoder = EncoderSpec(
        architecture=config.tower, image_size=config.image_size, num_features=config.num_features, micro_batch=16
    )
    return config, encoder
