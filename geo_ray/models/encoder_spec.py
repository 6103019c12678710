"""Which image tower a bundle has, and on what input."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD

LATER = ("clip", "features", "adapter", "preprocessing", "image_mean", "image_std")  # entries of an encoder


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """Which image tower, on what input; its features are scaled to length one where ``normalize``.

    ``micro_batch`` is how many images the tower sees at once, always, padded where there are fewer: kernels round
    differently for other sizes, and an image's answer must not depend on its neighbours.

    ``architecture`` is one of our own towers, ``open_clip:NAME``, or ``clip``: open_clip's image tower as ``clip``
    configures it (``embed_dim``, ``vision_cfg``, ``text_cfg``, ``quick_gelu``). Of a CLIP tower, ``features`` are the
    projected ones, or the mean of all tokens before the last layer norm and the projection (PIGEON, 1024-d). An
    ``adapter`` is a small network on them: ``geoclip``'s. ``preprocessing`` says how pixels are made: ``fast`` scales
    JPEG while decoding; ``transformers`` and ``open_clip`` make those libraries' pixels, which differ in rounding.
    """

    architecture: str
    image_size: int
    num_features: int
    normalize: bool = True
    micro_batch: int = 16
    clip: dict[str, Any] | None = None
    features: Literal["projected", "tokens"] = "projected"
    adapter: Literal["", "geoclip"] = ""
    preprocessing: Literal["fast", "transformers", "open_clip"] = "fast"
    image_mean: tuple[float, ...] = CLIP_MEAN
    image_std: tuple[float, ...] = CLIP_STD

    def __post_init__(self) -> None:
        for name in ("image_size", "num_features", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"encoder: {name}={getattr(self, name)} must be at least 1")
        allowed_words = {
            "features": ("projected", "tokens"),
            "adapter": ("", "geoclip"),
            "preprocessing": ("fast", "transformers", "open_clip"),
        }
        for name, allowed in allowed_words.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"encoder: {name}={getattr(self, name)!r} must be one of {allowed}")

    def entries(self) -> dict[str, Any]:
        """What a manifest holds: what was added later is left out at its default, so that fingerprints stay."""
        later = {field.name: field.default for field in dataclasses.fields(self) if field.name in LATER}
        return {name: v for name, v in dataclasses.asdict(self).items() if name not in later or v != later[name]}
