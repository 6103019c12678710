"""Hugging Face ``CLIPModel`` checkpoints in open_clip's terms: configuration, tensors, preprocessing.

Facts from transformers models/clip/configuration_clip.py, modeling_clip.py and image_processing_clip.py, and from
open_clip model.py. Faults are ``InputError`` that name the file and the entry; who knows the folder adds it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from geo_ray.errors import InputError
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.weights import Shape

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
END_OF_TEXT = 49407  # of CLIP's vocabulary, its largest id
BICUBIC = 3  # Pillow's number for the filter
LEVEL = 1 / 255

# What an entry is that config.json leaves out: newer versions of transformers write only what differs.
_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
         "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": END_OF_TEXT}  # fmt: skip
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
           "image_size": 224, "patch_size": 32, "num_channels": 3}  # fmt: skip
_BOTH = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}  # is it open_clip's quick_gelu?


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's model configuration for the content of a ``CLIPModel``'s config.json.

    Raises ``InputError`` for another kind of model, and for what open_clip's towers can't do.
    """
    if config.get("model_type") != "clip":
        raise InputError(f"{CONFIG}: model_type is {config.get('model_type')!r}; only CLIPModel ('clip') is read")
    text, vision = _section(config, "text_config", _TEXT), _section(config, "vision_config", _VISION)
    if text["hidden_act"] != vision["hidden_act"]:
        raise InputError(f"{CONFIG}: hidden_act is {text['hidden_act']!r} for text and {vision['hidden_act']!r} for "
                         "images; open_clip has one for both")  # fmt: skip
    if text["hidden_act"] not in tuple(_ACTIVATIONS):
        raise InputError(f"{CONFIG}: hidden_act {text['hidden_act']!r} is not known; have {', '.join(_ACTIVATIONS)}")
    # 2 is what transformers wrote before 4.31, meaning the largest id (huggingface/transformers#24773).
    if text["eos_token_id"] not in (2, END_OF_TEXT):
        raise InputError(f"{CONFIG}: text_config.eos_token_id is {text['eos_token_id']!r}, CLIP's is {END_OF_TEXT}")
    if vision["num_channels"] != 3:
        raise InputError(f"{CONFIG}: vision_config.num_channels is {vision['num_channels']!r}, colour images have 3")
    return {
        "embed_dim": _count(config, "projection_dim", 512),
        "quick_gelu": _ACTIVATIONS[text["hidden_act"]],
        "vision_cfg": {
            "image_size": square_side(vision["image_size"], "vision_config.image_size"),
            "patch_size": square_side(vision["patch_size"], "vision_config.patch_size"),
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            **_transformer(vision),
        },
        "text_cfg": {
            "context_length": _count(text, "max_position_embeddings"),
            "vocab_size": _count(text, "vocab_size"),
            "heads": text["num_attention_heads"],
            **_transformer(text),
        },
    }


def _section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A tower's configuration; the older ``text_config_dict`` has the say where there is one, as in transformers."""
    given = config.get(f"{name}_dict")
    given = config.get(name) if given is None else given
    if not isinstance(given, dict | None):
        raise InputError(f"{CONFIG}: {name} is {given!r}, not an object")
    section = {**defaults, **_BOTH, **{key: value for key, value in (given or {}).items() if value is not None}}
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        _count(section, key)
    if section["hidden_size"] % section["num_attention_heads"]:
        raise InputError(f"{CONFIG}: {name}.hidden_size={section['hidden_size']} is no multiple of "
                         f"num_attention_heads={section['num_attention_heads']}")  # fmt: skip
    eps = section["layer_norm_eps"]
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise InputError(f"{CONFIG}: {name}.layer_norm_eps={eps!r} must be a number above 0 and below 1")
    return section


def _transformer(section: Mapping[str, Any]) -> dict[str, Any]:
    width, hidden = section["hidden_size"], section["intermediate_size"]
    ratio = hidden / width
    return {
        "width": width,
        "layers": section["num_hidden_layers"],
        "mlp_ratio": ratio if int(width * ratio) == hidden else (hidden + 0.5) / width,  # open_clip rounds down
        "norm_kwargs": {"eps": section["layer_norm_eps"]},
    }


def _count(values: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"configuration: {name}={value!r} must be a whole number, at least 1")
    return value


def square_side(value: Any, name: str) -> int:
    """The side of a square that is given by one number or two; ``InputError`` where it is none."""
    sides = list(value) if isinstance(value, list | tuple) else [value]
    if len(sides) not in (1, 2) or sides[0] != sides[-1]:
        raise InputError(f"{name}={value!r}: only squares are read")
    return _count({name: sides[0]}, name)


_NAMES = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # the misspelling is transformers'
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_TRANSPOSED = ("visual.proj", "text_projection")
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_PARTS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
          "mlp.c_proj": "mlp.fc2"}  # fmt: skip


def hugging_face_names(name: str) -> tuple[str, ...]:
    """The tensors of a ``CLIPModel`` that open_clip's ``name`` holds: one, or queries, keys and values."""
    if name in _NAMES:
        return (_NAMES[name],)
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no tensor of open_clip's CLIP")
    visual, layer, part, kind = match.groups()
    block = f"{'vision' if visual else 'text'}_model.encoder.layers.{layer}"
    if part == "attn.in_proj":
        return tuple(f"{block}.self_attn.{which}_proj.{kind}" for which in "qkv")
    return (f"{block}.{_PARTS[part]}.{kind}",)


def hugging_face_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The tensors that a ``CLIPModel`` has and their shapes, from open_clip's."""
    answer: dict[str, Shape] = {}
    for name, shape in shapes.items():
        parts = hugging_face_names(name)
        own = shape[::-1] if name in _TRANSPOSED else (shape[0] // 3, *shape[1:]) if len(parts) == 3 else shape
        answer |= dict.fromkeys(parts, own)
    return answer


def open_clip_state(state: Mapping[str, torch.Tensor], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """open_clip's tensors of these names, from those of a ``CLIPModel``."""
    answer = {}
    for name in names:
        parts = [state[part] for part in hugging_face_names(name)]
        tensor = torch.cat(parts) if len(parts) == 3 else parts[0]
        answer[name] = tensor.T.contiguous() if name in _TRANSPOSED else tensor
    return answer


def hugging_face_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A ``CLIPModel``'s tensors, from open_clip's."""
    answer: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        names = hugging_face_names(name)
        own = tensor.T if name in _TRANSPOSED else tensor
        answer |= dict(zip(names, own.chunk(3) if len(names) == 3 else (own,), strict=True))
    return answer


def normalization(
    processor: Mapping[str, Any], image_size: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that a ``CLIPImageProcessor``'s configuration asks for.

    Raises ``InputError`` unless the rest is what ``decode_image`` does: RGB, shorter side to the tower's size
    (bicubic), centre crop, levels of 0 to 1.
    """
    kind = processor.get("image_processor_type") or processor.get("feature_extractor_type") or "CLIPImageProcessor"
    if not re.fullmatch(r"CLIP(FeatureExtractor|ImageProcessor(Fast|Pil)?)", str(kind)):
        raise InputError(f"{PREPROCESSOR}: {kind!r} is not CLIP's image processor")
    found = {
        "size": _edge(processor.get("size", 224), "shortest_edge"),
        "crop_size": _edge(processor.get("crop_size", 224), "height", "width"),
        "resample": processor.get("resample", BICUBIC),
        "rescale_factor": processor.get("rescale_factor", LEVEL),
        **{name: processor.get(name, True) for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize")},
    }
    wanted = {"size": image_size, "crop_size": image_size, "resample": BICUBIC, "rescale_factor": LEVEL}
    for name, value in found.items():
        if value != wanted.get(name, True):
            raise InputError(f"{PREPROCESSOR}: {name}={processor.get(name)!r} is preprocessing that geo-ray lacks: "
                             f"it scales the shorter side to the vision tower's image_size={image_size} (bicubic, 3), "
                             "crops the centre, divides by 255")  # fmt: skip
    return triple(processor.get("image_mean", CLIP_MEAN)), triple(processor.get("image_std", CLIP_STD), above=0.0)


def _edge(size: Any, *names: str) -> Any:
    """The one number of a size that is one, or an object of ``names`` that agree; else the size as it is."""
    sides = [size.get(name) for name in names] if isinstance(size, dict) and set(size) == set(names) else [size]
    return sides[0] if sides == sides[:1] * len(sides) else size


def triple(values: Any, above: float = -math.inf) -> tuple[float, float, float]:
    """One number for each of the three colours; ``InputError`` where they are no such numbers."""
    given = list(values) if isinstance(values, list | tuple) else [values] * 3
    if len(given) != 3 or not all(isinstance(value, int | float) and above < value < math.inf for value in given):
        raise InputError(f"mean or deviation {values!r} of an image is not three numbers above {above}")
    return float(given[0]), float(given[1]), float(given[2])
