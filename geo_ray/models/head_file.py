"""The geocell head as a bundle holds it. No torch: who only finds places does without."""

import numpy as np
from jaxtyping import Float32
from safetensors.numpy import load_file

from geo_ray.models.bundle import HEAD, Bundle


def read_head(bundle: Bundle) -> tuple[Float32[np.ndarray, "C D"], Float32[np.ndarray, "C"]]:
    """Weight and bias of the bundle's geocell head."""
    head = load_file(bundle.path(HEAD))
    return head["weight"].astype(np.float32), head["bias"].astype(np.float32)
