"""Image towers ready for inference. Shapes: B batch, S image side, D features."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors.torch import load_file
from torch import nn

from geo_ray.models.bundle import HEAD, WEIGHTS, Bundle, EncoderSpec
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.towers import TOWERS, fold_batch_norm

OPEN_CLIP = "open_clip:"
TOWER = "tower."  # prefix of the tower's tensors


def create_tower(spec: EncoderSpec) -> nn.Module:
    """The tower with fresh weights: one of ``TOWERS``, or ``open_clip:NAME`` for open_clip's image towers."""
    if spec.architecture.startswith(OPEN_CLIP):
        import open_clip  # 2 s to import; small towers do without

        model = open_clip.create_model(spec.architecture.removeprefix(OPEN_CLIP), load_weights=False)
        visual: nn.Module = model.visual
        return visual
    if spec.architecture not in TOWERS:
        raise ValueError(f"architecture {spec.architecture!r} is not known; have {sorted(TOWERS)} and {OPEN_CLIP}NAME")
    return TOWERS[spec.architecture](spec.image_size, spec.num_features)


def inference_dtype(device: str) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32."""
    if device == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32


class ImageEncoder:
    """uint8 pixels to float32 image features, in micro-batches of one size."""

    def __init__(self, tower: nn.Module, spec: EncoderSpec, device: str, dtype: torch.dtype) -> None:
        self._spec, self._device, self._dtype = spec, device, dtype
        self._tower = tower.eval().to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
        self._shift = torch.tensor(CLIP_MEAN, device=device)[:, None, None] * 255
        self._scale = 1 / (torch.tensor(CLIP_STD, device=device)[:, None, None] * 255)

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[np.ndarray, "B S S 3"]) -> Float32[np.ndarray, "B D"]:
        """Image features, one row an image."""
        step = self._spec.micro_batch
        features = np.empty((len(pixels), self._spec.num_features), np.float32)
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            padded = np.zeros((step, *pixels.shape[1:]), np.uint8)
            padded[: len(part)] = part
            x = torch.from_numpy(padded).to(self._device).permute(0, 3, 1, 2).float()
            x = ((x - self._shift) * self._scale).to(self._dtype).contiguous(memory_format=torch.channels_last)
            y = self._tower(x).float()
            y = nn.functional.normalize(y, dim=1) if self._spec.normalize else y
            features[start : start + len(part)] = y[: len(part)].cpu().numpy()
        return features


def open_encoder(bundle: Bundle, device: str) -> ImageEncoder:
    """The bundle's tower on a device."""
    tower = create_tower(bundle.encoder)
    state = read_weights(bundle.path(WEIGHTS), TOWER)
    tower.load_state_dict(state)
    return ImageEncoder(fold_batch_norm(tower), bundle.encoder, device, inference_dtype(device))


def read_head(bundle: Bundle) -> tuple[Float32[np.ndarray, "C D"], Float32[np.ndarray, "C"]]:
    """Weight and bias of the bundle's geocell head."""
    head = read_weights(bundle.path(HEAD), "")
    return head["weight"].numpy(), head["bias"].numpy()


def read_weights(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under a prefix, without it; half precision becomes float32."""
    tensors = {k.removeprefix(prefix): v for k, v in load_file(path).items() if k.startswith(prefix)}
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
