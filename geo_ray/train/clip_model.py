"""Both towers of a CLIP checkpoint in training, and the way back to a checkpoint that others read.

Shapes: B batch, S image side, T tokens, D features.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import save_file
from torch import nn

from geo_ray.models.checkpoints import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, ClipCheckpoint
from geo_ray.models.convert import BICUBIC, CONFIG, END_OF_TEXT, LEVEL, PREPROCESSOR, hugging_face_state
from geo_ray.models.tokenizer import Library, clip_tokenizer

PREFIX = "clip."
WEIGHTS = "model.safetensors"


class ClipTowers(nn.Module):
    """An image tower, a text tower and CLIP's logit scale, with the weights of a checkpoint or fresh ones."""

    def __init__(self, config: dict[str, Any], state: dict[str, torch.Tensor] | None = None) -> None:
        super().__init__()
        import open_clip  # 2 s to import

        names = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
        self.clip = open_clip.CLIP(**{name: config[name] for name in names})
        if state is not None:
            self.clip.load_state_dict(state)

    def forward(
        self, pixels: Float[torch.Tensor, "B 3 S S"], tokens: Int[torch.Tensor, "B T"]
    ) -> tuple[Float[torch.Tensor, "B D"], Float[torch.Tensor, "B D"], Float[torch.Tensor, ""]]:
        """Image and text features of length one, and the scale (see ``heads.limit_logit_scale``)."""
        images = nn.functional.normalize(self.clip.encode_image(pixels).float(), dim=1)
        texts = nn.functional.normalize(self.clip.encode_text(tokens).float(), dim=1)
        return images, texts, self.clip.logit_scale.float().exp()


def normalized(
    pixels: UInt8[torch.Tensor, "B S S 3"], mean: Sequence[float], std: Sequence[float]
) -> Float[torch.Tensor, "B 3 S S"]:
    """Levels of 0 to 255 as a tower wants them."""
    shift, scale = (torch.tensor(list(v), device=pixels.device)[:, None, None] * 255 for v in (mean, std))
    return (pixels.permute(0, 3, 1, 2).float() - shift) / scale


def fitting_tokens(texts: Sequence[str], context_length: int, library: Library) -> Int[torch.Tensor, "B T"]:
    """Tokens of captions; of one that is too long the last sentences go, and of a single one its end.

    PIGEON's place comes first in its captions, so that what goes is what says least about it.
    """
    tokenizer = clip_tokenizer(library)
    tokens = np.zeros((len(texts), context_length), np.int64)
    for row, text in enumerate(texts):
        sentences = text.split(". ")
        ids = tokenizer.encode(text)
        while len(ids) > context_length - 2 and len(sentences) > 1:
            sentences.pop()
            ids = tokenizer.encode(". ".join(sentences) + ".")
        ids = [tokenizer.sot_token_id, *ids[: context_length - 2], tokenizer.eot_token_id]
        tokens[row, : len(ids)] = ids
    return torch.from_numpy(tokens)


def trained_state(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's tensors of the two towers, of the weights that a run of ``ClipTowers`` has written."""
    return {name.removeprefix(PREFIX): t for name, t in weights.items() if name.startswith(PREFIX)}


def write_clip(folder: Path, checkpoint: ClipCheckpoint, state: dict[str, torch.Tensor]) -> None:
    """Write towers as a Hugging Face ``CLIPModel``: configuration, weights, preprocessing and tokenizer.

    ``checkpoint`` is what was trained on from; its towers must be CLIP's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = checkpoint.config
    save_file({k: v.contiguous() for k, v in hugging_face_state(state).items()}, folder / WEIGHTS,
              metadata={"format": "pt"})  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(hugging_face_config(config), indent=2) + "\n")
    side = config["vision_cfg"]["image_size"]
    processor = {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side}, "resample": BICUBIC, "rescale_factor": LEVEL,
        "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": list(checkpoint.image_mean), "image_std": list(checkpoint.image_std),
    }  # fmt: skip
    (folder / PREPROCESSOR).write_text(json.dumps(processor, indent=2) + "\n")
    write_tokenizer(folder)


def write_open_clip(folder: Path, checkpoint: ClipCheckpoint, state: dict[str, torch.Tensor]) -> None:
    """Write towers as a folder of open_clip's hub, which has names for any image tower that it can build."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / OPEN_CLIP_WEIGHTS)
    side = checkpoint.config["vision_cfg"]["image_size"]
    settings = {
        "model_cfg": {name: checkpoint.config[name] for name in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")},
        "preprocess_cfg": {"size": side, "mean": list(checkpoint.image_mean), "std": list(checkpoint.image_std),
                           "interpolation": "bicubic", "resize_mode": "shortest", "mode": "RGB"},
    }  # fmt: skip
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(settings, indent=2) + "\n")


def write_trained(folder: Path, checkpoint: ClipCheckpoint, state: dict[str, torch.Tensor]) -> None:
    """Write towers in the format of the library whose pixels and tokens they were trained with."""
    (write_clip if checkpoint.preprocessing == "transformers" else write_open_clip)(folder, checkpoint, state)


def hugging_face_config(config: dict[str, Any]) -> dict[str, Any]:
    """A ``CLIPModel``'s config.json for open_clip's model configuration."""
    activation = "quick_gelu" if config["quick_gelu"] else "gelu"
    vision, text = config["vision_cfg"], config["text_cfg"]

    def tower(section: dict[str, Any], heads: int) -> dict[str, Any]:
        ratio, eps = section.get("mlp_ratio", 4.0), section.get("norm_kwargs", {}).get("eps", 1e-5)
        return {"hidden_size": section["width"], "intermediate_size": int(section["width"] * ratio),
                "num_hidden_layers": section["layers"], "num_attention_heads": heads, "layer_norm_eps": eps,
                "hidden_act": activation, "projection_dim": config["embed_dim"]}  # fmt: skip

    return {
        "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": config["embed_dim"],
        "vision_config": tower(vision, vision["width"] // vision.get("head_width", 64)) | {
            "model_type": "clip_vision_model", "image_size": vision["image_size"], "patch_size": vision["patch_size"],
            "num_channels": 3,
        },
        "text_config": tower(text, text["heads"]) | {
            "model_type": "clip_text_model", "max_position_embeddings": text.get("context_length", 77),
            "vocab_size": text["vocab_size"], "bos_token_id": END_OF_TEXT - 1, "eos_token_id": END_OF_TEXT,
        },
    }  # fmt: skip


def write_tokenizer(folder: Path) -> None:
    """CLIP's vocabulary and merges, as a ``CLIPTokenizer`` reads them."""
    from geo_ray.models.tokenizer import MERGES, SPECIAL, VOCABULARY

    tokenizer = clip_tokenizer()
    vocabulary = {SPECIAL.get(token, token): number for token, number in tokenizer.encoder.items()}
    (folder / VOCABULARY).write_text(json.dumps(vocabulary, ensure_ascii=False))
    merges = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer.bpe_ranks)]
    (folder / MERGES).write_text("\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
               "pad_token": "<|endoftext|>"}  # fmt: skip
    settings = special | {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
