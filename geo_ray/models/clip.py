"""Image towers ready for inference. Shapes: B batch, S image side, D features."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors import safe_open
from torch import nn

from geo_ray.errors import BundleError
from geo_ray.models.bundle import WEIGHTS, Bundle
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.towers import TOWERS, fold_batch_norm

OPEN_CLIP = "open_clip:"
CLIP = "clip"
TOWER = "tower."  # prefix of the tower's tensors
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MICRO_BATCHES = (16, 32, 64, 128, 256, 512)  # that are tried on a GPU
NEARLY = 0.98  # of the fastest one's rate
TIMED = 4  # micro-batches
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

        device = torch.get_default_device()  # to which it moves the model; "meta" has no memory and no random numbers
        model = open_clip.create_model(spec.architecture.removeprefix(OPEN_CLIP), load_weights=False, device=device)
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
    """uint8 pixels to float32 image features, in micro-batches of one size.

    ``micro_batch`` is that size; without it, it is what the encoder's spec says. ``say`` is told what people should
    know. Calls may overlap.
    """

    def __init__(
        self,
        tower: nn.Module,
        spec: EncoderSpec,
        device: str,
        dtype: torch.dtype,
        micro_batch: int | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._spec, self._device, self._dtype = spec, torch.device(device), dtype
        self.micro_batch = micro_batch or spec.micro_batch
        self._tower = tower.eval().to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
        self._shift = torch.tensor(spec.image_mean, device=device)[:, None, None] * 255
        self._scale = 1 / (torch.tensor(spec.image_std, device=device)[:, None, None] * 255)
        self._lanes = threading.local()  # of each thread that calls
        self._say, self._halving, self._halved = say, threading.Lock(), False

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[np.ndarray, "B S S 3"]) -> Float32[np.ndarray, "B D"]:
        """Image features, one row an image.

        Where the device has no memory for a micro-batch, it is halved, once; ``BundleError`` where that doesn't help.
        """
        micro_batch = self.micro_batch
        try:
            return self._encoded(pixels)
        except torch.OutOfMemoryError:
            self._halve(micro_batch)
        try:
            return self._encoded(pixels)
        except torch.OutOfMemoryError as error:
            raise self._no_memory() from error

    def _halve(self, micro_batch: int) -> None:
        """Halve a micro-batch that was too large, unless another thread has."""
        with self._halving:
            if self.micro_batch != micro_batch:
                return
            if self._halved or micro_batch == 1:
                raise self._no_memory()
            self._halved, self.micro_batch = True, micro_batch // 2
        torch.cuda.empty_cache()
        self._say(f"a GPU has no memory for {micro_batch} images at once; it goes on with {micro_batch // 2}")

    def _no_memory(self) -> BundleError:
        many = f"{self.micro_batch} images at once"
        return BundleError(f"a GPU has no memory for {many}; name a smaller --micro-batch, or fewer workers a GPU")

    def _encoded(self, pixels: UInt8[np.ndarray, "B S S 3"]) -> Float32[np.ndarray, "B D"]:
        starts = range(0, len(pixels), self.micro_batch)
        features = np.empty((len(pixels), self._spec.num_features), np.float32)
        with self._lane(pixels.shape[1:]) as lane:
            parts = [self._features(lane.on_device(pixels[at : at + self.micro_batch])) for at in starts]
            for start, part in zip(starts, lane.on_host(parts), strict=True):
                count = min(self.micro_batch, len(pixels) - start)
                features[start : start + count] = part[:count]
        return features

    @torch.inference_mode()
    def rate(self) -> float:
        """Images a second that it encodes, by a few micro-batches of blank ones."""
        side = self._spec.image_size
        pixels = np.zeros((TIMED * self.micro_batch, side, side, 3), np.uint8)
        self._encoded(pixels[: self.micro_batch])  # kernels are chosen and memory is taken at first
        start = time.perf_counter()
        self._encoded(pixels)
        return len(pixels) / (time.perf_counter() - start)

    def _features(self, pixels: UInt8[torch.Tensor, "b S S 3"]) -> Float32[torch.Tensor, "b D"]:
        """Features of a micro-batch that is on the device."""
        x = pixels.permute(0, 3, 1, 2).float()
        x = ((x - self._shift) * self._scale).to(self._dtype).contiguous(memory_format=torch.channels_last)
        y = token_mean(self._tower, x) if self._spec.features == "tokens" else self._tower(x).float()
        return nn.functional.normalize(y, dim=1) if self._spec.normalize else y

    def _lane(self, shape: tuple[int, ...]) -> "Lane | CudaLane":
        """This thread's way to the device and back, for micro-batches of images of this shape."""
        wanted = (self.micro_batch, *shape)
        if getattr(self._lanes, "shape", None) != wanted:
            kind = CudaLane if self._device.type == "cuda" else Lane
            self._lanes.shape, self._lanes.lane = wanted, kind(wanted, self._device)
        lane: Lane | CudaLane = self._lanes.lane
        return lane


class Lane:
    """Micro-batches of one shape to a CPU's tower and back."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._shape = shape

    def __enter__(self) -> "Lane":
        return self

    def __exit__(self, *error: object) -> None:
        return

    def on_device(self, pixels: UInt8[np.ndarray, "n S S 3"]) -> UInt8[torch.Tensor, "b S S 3"]:
        """The images, with black ones behind them where they are fewer than a micro-batch has."""
        padded = np.zeros(self._shape, np.uint8)
        padded[: len(pixels)] = pixels
        return torch.from_numpy(padded)

    def on_host(self, features: list[torch.Tensor]) -> list[np.ndarray]:
        """The features of all micro-batches."""
        return [part.numpy() for part in features]


class CudaLane:
    """Micro-batches of one shape to a GPU and back: copies go on beside computing, and nobody waits but for the last.

    Images are staged in two buffers of pinned memory in turn, and copied by a stream of their own; a buffer is filled
    again when its copy is done. Threads have lanes, and streams, of their own.
    """

    NUM_BUFFERS = 2

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        streams = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
        self._computing, self._copying = streams
        self._computing.wait_stream(torch.cuda.current_stream(device))  # on which the weights were copied
        self._staged = [torch.zeros(shape, dtype=torch.uint8).pin_memory() for _ in range(self.NUM_BUFFERS)]
        self._copied = [torch.cuda.Event() for _ in self._staged]  # type: ignore[no-untyped-call]
        self._turn = itertools.cycle(range(self.NUM_BUFFERS))
        self._device = device

    def __enter__(self) -> "CudaLane":
        self._context = torch.cuda.stream(self._computing)
        self._context.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)

    def on_device(self, pixels: UInt8[np.ndarray, "n S S 3"]) -> UInt8[torch.Tensor, "b S S 3"]:
        """See ``Lane.on_device``."""
        number = next(self._turn)
        staged, copied = self._staged[number], self._copied[number]
        copied.synchronize()
        there = staged.numpy()  # the same memory; images that came through Ray can't be written to, nor be torch's
        there[: len(pixels)], there[len(pixels) :] = pixels, 0
        with torch.cuda.stream(self._copying):
            images = staged.to(self._device, non_blocking=True)
            copied.record()
        self._computing.wait_event(copied)
        images.record_stream(self._computing)
        return images

    def on_host(self, features: list[torch.Tensor]) -> list[np.ndarray]:
        """See ``Lane.on_host``; one copy brings all."""
        if not features:
            return []
        return list(torch.stack(features).cpu().numpy())


def open_encoder(
    bundle: Bundle,
    device: str,
    dtype: str = "auto",
    micro_batch: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> ImageEncoder:
    """The bundle's tower on a device, computing in float32, bfloat16 or float16, or in what the device is fast in.

    ``micro_batch`` is how many images it sees at once, by default as many as the bundle says.
    """
    chosen = choose_dtype(dtype, device)
    tower = load_tower(bundle.encoder, read_weights(bundle.path(WEIGHTS), TOWER))
    return ImageEncoder(fold_batch_norm(tower), bundle.encoder, device, chosen, micro_batch, say)


def fastest_micro_batch(encoder: ImageEncoder, candidates: Sequence[int] = MICRO_BATCHES) -> int:
    """The smallest of these micro-batches that is about as fast on this device as the fastest one.

    Each is timed on blank images; those that memory has no room for are left out. ``encoder`` keeps the answer.
    """
    rates: dict[int, float] = {}
    for micro_batch in candidates:
        encoder.micro_batch = micro_batch
        try:
            rates[micro_batch] = encoder.rate()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
    best = max(rates.values(), default=0.0)
    encoder.micro_batch = next((size for size, rate in rates.items() if rate >= NEARLY * best), candidates[0])
    return encoder.micro_batch


def load_tower(spec: EncoderSpec, state: dict[str, torch.Tensor]) -> nn.Module:
    """The tower with these weights; one of open_clip's shares them with ``state``."""
    if spec.architecture in TOWERS:
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


def read_weights(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under a prefix, without it; no others are read. Half precision becomes float32."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (it is no dict)
        tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
