"""CLIP's byte-pair tokenizer as two libraries clean texts for it, and whether a checkpoint's is the same.

Shapes: L texts, T tokens.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
from jaxtyping import Int64

from geo_ray.errors import InputError
from geo_ray.models.weights import read_json

VOCABULARY, MERGES, TOKENIZER = "vocab.json", "merges.txt", "tokenizer.json"
# open_clip's names of the two tokens that aren't bytes, and everybody else's.
SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}


Library = Literal["transformers", "open_clip"]


@cache
def clip_tokenizer(library: Library = "open_clip") -> Any:
    """CLIP's tokenizer as open_clip or transformers clean a text for it; both make lower case of it.

    open_clip mends broken encodings, writes curly quotes and wide letters plainly, and resolves HTML entities;
    transformers composes accents (Unicode NFC), and that is all: "Cox’s Bāzār" has other tokens there.
    """
    import open_clip  # 2 s to import

    tokenizer = open_clip.SimpleTokenizer()
    if library == "transformers":
        tokenizer.clean_fn = _clean
    return tokenizer


def _clean(text: str) -> str:
    """The normalizer of transformers models/clip/tokenization_clip.py, which knows no final sigma."""
    return "".join(letter.lower() for letter in " ".join(normalize("NFC", text).split()))


def tokenize(texts: Sequence[str], context_length: int, library: Library) -> Int64[np.ndarray, "L T"]:
    """Token ids of texts, from start to end of text, then zeros.

    Raises ``InputError`` that quotes a text of more than ``context_length`` tokens: cut off, it would say less than it
    seems to.
    """
    tokenizer = clip_tokenizer(library)
    tokens = np.zeros((len(texts), context_length), np.int64)
    for row, text in enumerate(texts):
        ids = [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]
        if len(ids) > context_length:
            raise InputError(f"the text {text!r} has {len(ids)} tokens, the model reads {context_length}; shorten it")
        tokens[row, : len(ids)] = ids
    return tokens


def check_tokenizer(folder: Path) -> None:
    """Raise ``InputError`` unless the tokenizer files of a Hugging Face folder hold CLIP's vocabulary and merges."""
    vocabulary, merges, name = _read_tokenizer(folder)
    tokenizer = clip_tokenizer()
    expected = {SPECIAL.get(token, token): number for token, number in tokenizer.encoder.items()}
    if vocabulary != expected:
        differing = sorted(token for token in expected.keys() | vocabulary.keys()
                           if expected.get(token) != vocabulary.get(token))  # fmt: skip
        raise InputError(f"{name}: not CLIP's vocabulary: {len(differing):,} tokens differ, such as {differing[:3]}; "
                         "models with another tokenizer can't be used")  # fmt: skip
    if merges != list(tokenizer.bpe_ranks):
        raise InputError(f"{name}: not CLIP's byte-pair merges; models with another tokenizer can't be used")


def _read_tokenizer(folder: Path) -> tuple[dict[str, int], list[tuple[str, ...]], str]:
    """Vocabulary, merges and the files' name: of the fast tokenizer's file, or of the two older ones."""
    if (folder / TOKENIZER).is_file():
        model = read_json(folder / TOKENIZER).get("model")
        if not isinstance(model, dict) or not {"vocab", "merges"} <= model.keys() or model.get("type", "BPE") != "BPE":
            raise InputError(f"{TOKENIZER}: not a byte-pair tokenizer; models with another can't be used")
        merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        return model["vocab"], merges, TOKENIZER
    for name in (VOCABULARY, MERGES):
        if not (folder / name).is_file():
            raise InputError(f"neither {TOKENIZER} nor {name} is there; copy the tokenizer's files too")
    lines = (folder / MERGES).read_text(encoding="utf-8", errors="replace").split("\n")
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    return read_json(folder / VOCABULARY), merges, f"{VOCABULARY} and {MERGES}"
