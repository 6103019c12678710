"""Small CLIP checkpoints with random weights, in the formats that others publish.

The names of a Hugging Face ``CLIPModel``'s tensors are written out here, not taken from ``models.convert``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

# Widths and heads as published; the depth is what tests can afford.
TINY = {
    "projection_dim": 24,
    "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                      "image_size": 32, "patch_size": 8},
    "text_config": {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2},
}  # fmt: skip
VIT_B_32 = {
    "projection_dim": 512,
    "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2, "num_attention_heads": 12,
                      "image_size": 224, "patch_size": 32},
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 8},
}  # fmt: skip
VIT_L_14_336 = {
    "projection_dim": 768,
    "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2,
                      "num_attention_heads": 16, "image_size": 336, "patch_size": 14},
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2, "num_attention_heads": 12},
}  # fmt: skip


def write_hugging_face(
    folder: Path,
    shape: dict[str, Any] = TINY,
    *,
    hidden_act: str = "quick_gelu",
    layer_norm_eps: float = 1e-5,
    eos_token_id: int = 2,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Path:
    """A ``CLIPModel`` folder with the files, and in the form, of openai/clip-vit-base-patch32 and StreetCLIP."""
    folder.mkdir(parents=True, exist_ok=True)
    config = hugging_face_config(shape, hidden_act, layer_norm_eps, eos_token_id)
    write_json(folder / "config.json", config)
    state = hugging_face_state(config, torch.Generator().manual_seed(seed))
    cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(cast, folder / "model.safetensors")
    side = shape["vision_config"]["image_size"]
    write_json(folder / "preprocessor_config.json", {
        "crop_size": side, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": MEAN, "image_std": STD, "resample": 3,
        "size": side,
    })  # fmt: skip
    write_tokenizer(folder)
    return folder


def hugging_face_config(
    shape: dict[str, Any], hidden_act: str, layer_norm_eps: float, eos_token_id: int
) -> dict[str, Any]:
    both = {"hidden_act": hidden_act, "layer_norm_eps": layer_norm_eps, "projection_dim": shape["projection_dim"],
            "attention_dropout": 0.0}  # fmt: skip
    text = {"model_type": "clip_text_model", "vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 0,
            "eos_token_id": eos_token_id, "pad_token_id": 1}  # fmt: skip
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "logit_scale_init_value": 2.6592,
        "projection_dim": shape["projection_dim"],
        "text_config": shape["text_config"] | both | text,
        "text_config_dict": None,
        "vision_config": shape["vision_config"] | both | {"model_type": "clip_vision_model", "num_channels": 3},
        "vision_config_dict": None,
    }


def hugging_face_state(config: dict[str, Any], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Weights that let signals through at full strength, so that a wrong epsilon or activation shows."""
    text, vision = config["text_config"], config["vision_config"]
    state: dict[str, torch.Tensor] = {"logit_scale": torch.tensor(4.0)}

    def draw(name: str, *size: int, std: float) -> None:
        state[name] = torch.randn(size, generator=generator) * std

    def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        draw(f"{name}.weight", outputs, inputs, std=inputs**-0.5)
        if bias:
            draw(f"{name}.bias", outputs, std=0.1)

    def norm(name: str, width: int) -> None:
        draw(f"{name}.bias", width, std=0.1)
        state[f"{name}.weight"] = 1 + torch.randn(width, generator=generator) * 0.1

    for model, section in (("text_model", text), ("vision_model", vision)):
        width = section["hidden_size"]
        for layer in range(section["num_hidden_layers"]):
            block = f"{model}.encoder.layers.{layer}"
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                linear(f"{block}.self_attn.{part}", width, width)
            linear(f"{block}.mlp.fc1", width, section["intermediate_size"])
            linear(f"{block}.mlp.fc2", section["intermediate_size"], width)
            norm(f"{block}.layer_norm1", width)
            norm(f"{block}.layer_norm2", width)
    width, context = text["hidden_size"], text["max_position_embeddings"]
    draw("text_model.embeddings.token_embedding.weight", text["vocab_size"], width, std=0.02)
    draw("text_model.embeddings.position_embedding.weight", context, width, std=0.01)
    state["text_model.embeddings.position_ids"] = torch.arange(context)[None]
    norm("text_model.final_layer_norm", width)
    linear("text_projection", width, config["projection_dim"], bias=False)
    width, patch = vision["hidden_size"], vision["patch_size"]
    positions = (vision["image_size"] // patch) ** 2 + 1
    draw("vision_model.embeddings.class_embedding", width, std=0.02)
    draw("vision_model.embeddings.patch_embedding.weight", width, 3, patch, patch, std=0.02 / patch)
    draw("vision_model.embeddings.position_embedding.weight", positions, width, std=0.02)
    state["vision_model.embeddings.position_ids"] = torch.arange(positions)[None]
    norm("vision_model.pre_layrnorm", width)
    norm("vision_model.post_layernorm", width)
    linear("visual_projection", width, config["projection_dim"], bias=False)
    return state


def write_tokenizer(folder: Path) -> None:
    """CLIP's vocab.json and merges.txt from the byte pairs that open_clip ships."""
    vocabulary, merges = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
               "unk_token": "<|endoftext|>"}  # fmt: skip
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", special | {
        "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    })  # fmt: skip


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Hugging Face's vocabulary and merges."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return {names.get(token, token): number for token, number in tokenizer.encoder.items()}, list(tokenizer.bpe_ranks)


def write_open_clip(folder: Path, model_cfg: dict[str, Any] | None = None, *, seed: int = 0, **preprocess: Any) -> Path:
    """A folder as open_clip pushes to the hub: its configuration and ``open_clip_model.safetensors``."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    config = model_cfg or {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"],
                               config.get("quick_gelu", False))  # fmt: skip
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
              folder / "open_clip_model.safetensors")  # fmt: skip
    settings = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"} | preprocess
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": settings})
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))


def edit_json(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; a dotted name reaches into an object, and None takes the entry away."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *outer, last = name.split(".")
        inner = content
        for part in outer:
            inner = inner[part]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    write_json(path, content)
