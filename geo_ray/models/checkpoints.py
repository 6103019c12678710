"""CLIP checkpoints as others publish them, read with checks: Hugging Face ``CLIPModel`` and open_clip hub folders."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geo_ray.errors import InputError
from geo_ray.models.convert import (
    CONFIG,
    PREPROCESSOR,
    hugging_face_shapes,
    model_config,
    normalization,
    open_clip_state,
    square_side,
    triple,
)
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.tokenizer import Library, check_tokenizer, clip_tokenizer
from geo_ray.models.weights import Shape, find_weights, read_json, read_tensors

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"
WEIGHTS = "model.safetensors"
TEXT_TOWER = "text."  # open_clip's prefix where the text tower is a module of its own
PROCESSOR = "processor_config.json"  # newer transformers put the image processor's settings there
MAX_LOG_SCALE = 20.0  # of a factor of 5e8; CLIP itself stops at 100

# What text_cfg may hold: towers that read left to right and answer at the end of text, as CLIP's.
_TEXT_ENTRIES = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "ls_init_value", "eos_id",
                 "proj_bias", "act_kwargs", "norm_kwargs")  # fmt: skip
_CLIP_TEXT = {"pool_type": ("argmax",), "proj_type": ("linear",), "tokenizer_kwargs": ({},)}
_MODEL_ENTRIES = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipCheckpoint:
    """A CLIP model: open_clip's configuration and tensors of both towers, as stored.

    ``preprocessing`` is the library whose pixels and tokens the model is used with. ``logit_scale`` multiplies cosines:
    it is the exponential of the stored number. ``weights_sha256`` is the weights file's; of several, that of the output
    of ``sha256sum *.safetensors``.
    """

    config: dict[str, Any]
    state: dict[str, torch.Tensor]
    preprocessing: Library
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    logit_scale: float
    weights_sha256: str


def read_checkpoint(folder: Path, sha256: str | None = None) -> ClipCheckpoint:
    """The checkpoint in a folder: a Hugging Face ``CLIPModel``, or a model of open_clip's hub.

    Where both are there, open_clip's, which needs no conversion. ``InputError`` names the folder and the file that is
    missing, damaged, pickled (a pickle can run code) or not what the configuration says, and what to do.
    """
    if not folder.is_dir():
        raise InputError(f"checkpoint {folder}: there is no such folder")
    try:
        return _read_open_clip(folder, sha256) if _is_open_clip(folder) else _read_hugging_face(folder, sha256)
    except InputError as error:
        raise InputError(f"checkpoint {folder}: {error}") from error


def _is_open_clip(folder: Path) -> bool:
    own_weights = (folder / OPEN_CLIP_WEIGHTS).is_file() or not (folder / CONFIG).is_file()
    return (folder / OPEN_CLIP_CONFIG).is_file() and own_weights


def _read_hugging_face(folder: Path, sha256: str | None) -> ClipCheckpoint:
    if not (folder / CONFIG).is_file():
        raise InputError(f"neither {CONFIG} (Hugging Face) nor {OPEN_CLIP_CONFIG} is there; name the folder that holds "
                         "the configuration and the weights")  # fmt: skip
    config = model_config(read_json(folder / CONFIG))
    mean, std = normalization(_image_processor(folder), config["vision_cfg"]["image_size"])
    check_tokenizer(folder)
    shapes = _shapes(config, CONFIG)
    state, digest = read_tensors(find_weights(folder, WEIGHTS), hugging_face_shapes(shapes), sha256)
    state = open_clip_state(state, list(shapes))
    return _checkpoint(config, state, "transformers", mean, std, digest)


def _image_processor(folder: Path) -> dict[str, Any]:
    if (folder / PREPROCESSOR).is_file():
        return read_json(folder / PREPROCESSOR)
    nested = read_json(folder / PROCESSOR).get("image_processor") if (folder / PROCESSOR).is_file() else None
    if not isinstance(nested, dict):
        raise InputError(f"{PREPROCESSOR} is missing; copy it too: it says how pixels are made")
    return nested


def _read_open_clip(folder: Path, sha256: str | None) -> ClipCheckpoint:
    content = read_json(folder / OPEN_CLIP_CONFIG)
    config = _open_clip_config(content.get("model_cfg"))
    mean, std = _open_clip_preprocessing(content.get("preprocess_cfg", {}), config["vision_cfg"]["image_size"])
    shapes = _shapes(config, OPEN_CLIP_CONFIG)
    state, digest = read_tensors(find_weights(folder, OPEN_CLIP_WEIGHTS, WEIGHTS), shapes, sha256, TEXT_TOWER)
    return _checkpoint(config, state, "open_clip", mean, std, digest)


def _open_clip_config(given: Any) -> dict[str, Any]:
    """The model configuration with what is needed alone; ``InputError`` unless both towers are such as CLIP's."""
    if not isinstance(given, dict) or not all(isinstance(given.get(n), dict) for n in ("vision_cfg", "text_cfg")):
        raise InputError(f"{OPEN_CLIP_CONFIG}: model_cfg has no vision_cfg or no text_cfg")
    if "multimodal_cfg" in given:
        raise InputError(f"{OPEN_CLIP_CONFIG}: multimodal_cfg is CoCa's; only CLIP is read")
    for name, value in given["text_cfg"].items():
        if name not in _TEXT_ENTRIES and value and value not in _CLIP_TEXT.get(name, ()):
            raise InputError(f"{OPEN_CLIP_CONFIG}: text_cfg.{name}={value!r} is not CLIP's text tower and tokenizer")
    size = square_side(given["vision_cfg"].get("image_size", 224), "vision_cfg.image_size")
    text = {name: value for name, value in given["text_cfg"].items() if name in _TEXT_ENTRIES}
    vision = given["vision_cfg"] | {"image_size": size}
    if "timm_model_pretrained" in vision:
        vision["timm_model_pretrained"] = False  # or building the tower would download it
    return {"embed_dim": given.get("embed_dim"), "quick_gelu": bool(given.get("quick_gelu")), "vision_cfg": vision,
            "text_cfg": text}  # fmt: skip


def _open_clip_preprocessing(
    given: Any, image_size: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    if not isinstance(given, dict):
        raise InputError(f"{OPEN_CLIP_CONFIG}: preprocess_cfg is {given!r}, not an object")
    wanted = {"interpolation": "bicubic", "resize_mode": "shortest", "mode": "RGB"}
    for name, value in wanted.items():
        if given.get(name, value) != value:
            raise InputError(f"{OPEN_CLIP_CONFIG}: preprocess_cfg.{name}={given[name]!r} is preprocessing that geo-ray "
                             f"doesn't do; it does {value!r}")  # fmt: skip
    size = square_side(given.get("size") or image_size, "preprocess_cfg.size")
    if size != image_size:
        raise InputError(f"{OPEN_CLIP_CONFIG}: preprocess_cfg.size={size} is not vision_cfg.image_size={image_size}")
    return triple(given.get("mean", CLIP_MEAN)), triple(given.get("std", CLIP_STD), above=0.0)


def _shapes(config: Mapping[str, Any], name: str) -> dict[str, Shape]:
    """The tensors that open_clip's model of this configuration has, and their shapes."""
    import open_clip  # 2 s to import

    try:
        with torch.device("meta"):  # shapes alone: no memory, no random numbers
            model = open_clip.CLIP(**{entry: config[entry] for entry in _MODEL_ENTRIES})
    except (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError, AttributeError, LookupError) as error:
        raise InputError(f"{name}: open_clip can't build the model that it describes ({error})") from error
    if (size := model.vocab_size) < (needed := clip_tokenizer().vocab_size):
        raise InputError(f"{name}: the text tower knows {size} tokens, CLIP's tokenizer makes {needed}; models with "
                         "another tokenizer can't be used")  # fmt: skip
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def _checkpoint(
    config: dict[str, Any],
    state: dict[str, torch.Tensor],
    preprocessing: Library,
    image_mean: tuple[float, float, float],
    image_std: tuple[float, float, float],
    weights_sha256: str,
) -> ClipCheckpoint:
    log_scale = state["logit_scale"].item()
    if not math.isfinite(log_scale) or log_scale > MAX_LOG_SCALE:
        raise InputError(f"logit_scale is {log_scale}, not the logarithm of a factor; get the weights again")
    return ClipCheckpoint(
        config=config,
        state=state,
        preprocessing=preprocessing,
        image_mean=image_mean,
        image_std=image_std,
        logit_scale=math.exp(log_scale),
        weights_sha256=weights_sha256,
    )
