"""Texts to features by a CLIP checkpoint's text tower. Shapes: L texts, T tokens, D features."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from geo_ray.errors import BundleError
from geo_ray.models.checkpoints import ClipCheckpoint
from geo_ray.models.local_files import cache_folder
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.tokenizer import tokenize

BATCH = 64
WEIGHTS, SETTINGS = "weights.safetensors", "settings.json"  # of a text tower in a bundle
VISUAL = "visual."  # prefix of the image tower's tensors
# open_clip builds both towers at once; this is the least it can be asked for in place of the image tower.
NO_IMAGES = {"layers": 1, "width": 1, "head_width": 1, "patch_size": 1, "image_size": 1}


class TextEncoder:
    """Texts to float32 features of length one, by the text tower of a checkpoint, whose weights it shares."""

    def __init__(self, checkpoint: ClipCheckpoint, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        import open_clip  # 2 s to import

        config = checkpoint.config
        with torch.device("meta"):  # weights that are replaced need no memory and no random numbers
            model = open_clip.CLIP(config["embed_dim"], NO_IMAGES, config["text_cfg"], config["quick_gelu"])
        del model.visual
        self._context_length, self._num_features, self._device = model.context_length, config["embed_dim"], device
        self._library = checkpoint.preprocessing
        # Each token sees those before it and itself. Kept here, for it is not among the weights.
        model.attn_mask = torch.full([self._context_length] * 2, -torch.inf).triu(1)
        model.load_state_dict(text_state(checkpoint), assign=True)
        self._model = model.eval().to(device=device, dtype=dtype)

    def tokenize(self, texts: Sequence[str]) -> Int64[np.ndarray, "L T"]:
        """Token ids as the checkpoint's library makes them; ``InputError`` quotes a text too long for the model."""
        return tokenize(texts, self._context_length, self._library)

    def __call__(self, texts: Sequence[str]) -> Float32[np.ndarray, "L D"]:
        """Features, one row a text.

        Tokens after the end of a text can't change its features, so those that all texts of a batch lack are left out,
        and texts of similar length share a batch.
        """
        tokens = self.tokenize(texts)
        lengths = tokens.argmax(axis=1) + 1  # the end of the text is the largest token
        order = np.argsort(lengths, kind="stable")
        parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        features = np.empty((len(tokens), self._num_features), np.float32)
        for rows in parts:
            features[rows] = self._encode(torch.from_numpy(tokens[rows, : lengths[rows].max()])).cpu().numpy()
        return features

    @torch.inference_mode()
    def _encode(self, tokens: Int64[torch.Tensor, "L T"]) -> Float32[torch.Tensor, "L D"]:
        return encode_tokens(self._model, tokens.to(self._device))


def encode_tokens(model: Any, tokens: Int64[torch.Tensor, "L T"]) -> Float32[torch.Tensor, "L D"]:
    """Features of length one by open_clip's text tower, as its ``encode_text``, of texts of any length T.

    ``encode_text`` takes texts of the full context only, most of which is blank.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x[torch.arange(len(x), device=tokens.device), tokens.argmax(dim=1)])
    return nn.functional.normalize(_project(model.text_projection, x).float(), dim=1)


def _project(projection: nn.Parameter | nn.Linear, x: Float[torch.Tensor, "L W"]) -> Float[torch.Tensor, "L D"]:
    projected: torch.Tensor = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return projected


def text_state(checkpoint: ClipCheckpoint) -> dict[str, torch.Tensor]:
    """The tensors of the text tower, and the logit scale."""
    return {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith(VISUAL)}


def write_text_tower(folder: Path, checkpoint: ClipCheckpoint) -> None:
    """Write what is needed of a checkpoint to embed texts."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in text_state(checkpoint).items()}, folder / WEIGHTS)
    config = {name: checkpoint.config[name] for name in ("embed_dim", "text_cfg", "quick_gelu")}
    (folder / SETTINGS).write_text(json.dumps({"config": config, "preprocessing": checkpoint.preprocessing}, indent=1))


def read_text_tower(folder: Path) -> ClipCheckpoint:
    """What ``write_text_tower`` wrote, as a checkpoint without an image tower."""
    try:
        settings, state = json.loads((folder / SETTINGS).read_text()), load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise BundleError(f"{folder} holds no text tower ({error}); restore the bundle") from error
    return ClipCheckpoint(
        config=settings["config"], state=state, preprocessing=settings["preprocessing"], image_mean=CLIP_MEAN,
        image_std=CLIP_STD, logit_scale=float(state["logit_scale"].exp()), weights_sha256="",
    )  # fmt: skip


def embed_texts(
    checkpoint: ClipCheckpoint, texts: Sequence[str], cache: Path | None = None
) -> Float32[np.ndarray, "L D"]:
    """Features of length one of texts, one row a text, computed once in float32 and then read from a file.

    Files are in ``cache``, XDG_CACHE_HOME/geo-ray/texts unless said otherwise, named for the text tower's weights and
    the texts; one that is damaged is written anew.
    """
    folder = cache_folder() / "texts" if cache is None else cache
    path = folder / f"{_fingerprint(checkpoint, texts)}.npy"
    shape = (len(texts), checkpoint.config["embed_dim"])
    features = _read_features(path, shape)
    if features is None:
        features = TextEncoder(checkpoint)(texts)
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        with partial.open("wb") as file:
            np.save(file, features)
        partial.replace(path)
    return features


def _read_features(path: Path, shape: tuple[int, int]) -> Float32[np.ndarray, "L D"] | None:
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(features, np.ndarray) or features.dtype != np.float32 or features.shape != shape:
        return None
    return features if (np.abs(np.linalg.norm(features, axis=1) - 1) < 1e-4).all() else None


def _fingerprint(checkpoint: ClipCheckpoint, texts: Sequence[str]) -> str:
    config = {name: checkpoint.config[name] for name in ("embed_dim", "text_cfg", "quick_gelu")}
    digest = hashlib.sha256(json.dumps([config, checkpoint.preprocessing, list(texts)], sort_keys=True).encode())
    for name, tensor in sorted(text_state(checkpoint).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
