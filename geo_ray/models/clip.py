"""Image towers ready for inference. Shapes: B batch, S image side, D features."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors import safe_open
from torch import nn

from geo_ray.models.bundle import HEAD, WEIGHTS, Bundle
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.towers import TOWERS, fold_batch_norm

OPEN_CLIP = "open_clip:"
CLIP = "clip"
TOWER = "tower."  # prefix of the tower's tensors
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# open_clip builds both towers at once; this is the least it can be asked for in place of the text tower.
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}


def create_tower(spec: EncoderSpec) -> nn.Module:
    """The tower with fresh weights: one of ``TOWERS``, ``open_clip:NAME``, or ``clip`` as ``spec.clip`` configures it.

    Its tensors are named as open_clip's below ``visual.``; with an adapter, ``0.`` is before them and ``1.`` before the
    adapter's. What it gives are the projected features; the mean of all tokens is taken by ``token_mean``.
    """
    if spec.architecture == CLIP:
        return _create_clip(spec)
    if spec.architecture.startswith(OPEN_CLIP):
        import open_clip  # 2 s to import; small towers do without

        model = open_clip.create_model(spec.architecture.removeprefix(OPEN_CLIP), load_weights=False)
        visual: nn.Module = model.visual
        return visual
    if spec.architecture not in TOWERS:
        raise ValueError(
            f"architecture {spec.architecture!r} is not known; have {sorted(TOWERS)}, {CLIP} and {OPEN_CLIP}NAME"
        )
    return TOWERS[spec.architecture](spec.image_size, spec.num_features)


def _create_clip(spec: EncoderSpec) -> nn.Module:
    import open_clip

    if spec.clip is None:
        raise ValueError(f"encoder: architecture={CLIP!r} needs clip, open_clip's model configuration")
    model = open_clip.CLIP(spec.clip["embed_dim"], spec.clip["vision_cfg"], NO_TEXT, spec.clip["quick_gelu"])
    tower: nn.Module = model.visual
    if spec.features == "tokens" and (spec.adapter or not isinstance(tower, open_clip.transformer.VisionTransformer)):
        raise ValueError(f"encoder: features='tokens' are of a vision transformer without adapter={spec.adapter!r}")
    if spec.adapter == "geoclip":
        from geo_ray.models.geoclip import ImageAdapter

        return nn.Sequential(tower, ImageAdapter())
    return tower


def token_mean(tower: nn.Module, pixels: Float[torch.Tensor, "B 3 S S"]) -> Float32[torch.Tensor, "B D"]:
    """Mean of all tokens, class and patches, of a vision transformer before its last layer norm and projection.

    transformers' ``last_hidden_state.mean(1)``, which PIGEON embeds with (models/clip_embedder.py).
    """
    found = tower.forward_intermediates(  # type: ignore[operator]
        pixels, indices=1, intermediates_only=True, output_fmt="NLC", output_extra_tokens=True
    )
    tokens = torch.cat([found["image_intermediates_prefix"][-1], found["image_intermediates"][-1]], dim=1)
    return tokens.float().mean(dim=1)


def inference_dtype(device: str) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32."""
    if device == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32


def choose_dtype(dtype: str, device: str) -> torch.dtype:
    """The dtype of this name; ``auto`` is ``inference_dtype``."""
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not known; have auto, {', '.join(DTYPES)}")
    return inference_dtype(device) if dtype == "auto" else DTYPES[dtype]


class ImageEncoder:
    """uint8 pixels to float32 image features, in micro-batches of one size."""

    def __init__(self, tower: nn.Module, spec: EncoderSpec, device: str, dtype: torch.dtype) -> None:
        self._spec, self._device, self._dtype = spec, device, dtype
        self._tower = tower.eval().to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
        self._shift = torch.tensor(spec.image_mean, device=device)[:, None, None] * 255
        self._scale = 1 / (torch.tensor(spec.image_std, device=device)[:, None, None] * 255)

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
            y = token_mean(self._tower, x) if self._spec.features == "tokens" else self._tower(x).float()
            y = nn.functional.normalize(y, dim=1) if self._spec.normalize else y
            features[start : start + len(part)] = y[: len(part)].cpu().numpy()
        return features


def open_encoder(bundle: Bundle, device: str, dtype: str = "auto") -> ImageEncoder:
    """The bundle's tower on a device, computing in float32, bfloat16 or float16, or in what the device is fast in."""
    chosen = choose_dtype(dtype, device)
    tower = load_tower(bundle.encoder, read_weights(bundle.path(WEIGHTS), TOWER))
    return ImageEncoder(fold_batch_norm(tower), bundle.encoder, device, chosen)


def load_tower(spec: EncoderSpec, state: dict[str, torch.Tensor]) -> nn.Module:
    """The tower with these weights; that of a ``clip`` shares them with ``state``."""
    if spec.architecture != CLIP:
        tower = create_tower(spec)
        tower.load_state_dict(state)
        return tower
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced (3 s for ViT-L/14)
        tower = create_tower(spec)
    if (
        dict(tower.named_buffers()).keys() - tower.state_dict().keys()
    ):  # some are computed, not stored: timm's positions
        tower = create_tower(spec)
    tower.load_state_dict(state, assign=True)
    return tower


def read_head(bundle: Bundle) -> tuple[Float32[np.ndarray, "C D"], Float32[np.ndarray, "C"]]:
    """Weight and bias of the bundle's geocell head."""
    head = read_weights(bundle.path(HEAD), "")
    return head["weight"].numpy(), head["bias"].numpy()


def read_weights(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under a prefix, without it; no others are read. Half precision becomes float32."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (it is no dict)
        tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
