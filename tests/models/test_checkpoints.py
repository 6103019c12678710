"""Published CLIP checkpoints: what is read, and what every fault says."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geo_ray.errors import InputError
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.texts import TextEncoder
from tests.models.checkpoint_files import (
    VIT_B_32,
    clip_vocabulary,
    edit_json,
    write_hugging_face,
    write_json,
    write_open_clip,
)
from tests.models.test_convert import image_encoder, pixels_and_input

RESNET = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
OPEN_CLIP_TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture
def folder(tmp_path):
    return write_hugging_face(tmp_path / "clip")


@pytest.fixture
def hub_folder(tmp_path):
    return write_open_clip(tmp_path / "open")


def refused(folder, message, **options):
    """The fault names the folder, and says this."""
    with pytest.raises(InputError, match=message) as raised:
        read_checkpoint(folder, **options)
    assert str(raised.value).startswith(f"checkpoint {folder}: ")


def change_weights(folder, change, name="model.safetensors"):
    state = load_file(folder / name)
    change(state)
    save_file(state, folder / name)


class TestHuggingFace:
    def test_what_is_read(self, folder):
        checkpoint = read_checkpoint(folder)
        assert checkpoint.preprocessing == "transformers"
        assert checkpoint.image_mean == (0.48145466, 0.4578275, 0.40821073)
        assert checkpoint.logit_scale == pytest.approx(np.exp(4))
        assert checkpoint.weights_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        assert checkpoint.state["visual.proj"].shape == (32, 24)
        json.dumps(checkpoint.config)

    def test_with_its_digest(self, folder):
        digest = read_checkpoint(folder).weights_sha256
        assert read_checkpoint(folder, digest.upper()).weights_sha256 == digest
        refused(folder, f"model.safetensors: the sha256 is {digest}, not {'0' * 64}", sha256="0" * 64)

    def test_half_precision_stays_as_stored(self, tmp_path):
        checkpoint = read_checkpoint(write_hugging_face(tmp_path / "half", dtype=torch.float16))
        assert {tensor.dtype for tensor in checkpoint.state.values()} == {torch.float16}

    def test_as_transformers_writes_it_now(self, folder, tmp_path):
        """tokenizer.json, processor_config.json and several weights files."""
        transformers = pytest.importorskip("transformers")
        new = tmp_path / "new"
        transformers.CLIPModel.from_pretrained(folder).save_pretrained(new, max_shard_size="1MB")
        transformers.CLIPProcessor(
            transformers.CLIPImageProcessor.from_pretrained(folder), transformers.CLIPTokenizer.from_pretrained(folder)
        ).save_pretrained(new)
        shards = sorted(path.name for path in new.glob("model-*.safetensors"))
        assert len(shards) > 1
        assert not (new / "preprocessor_config.json").exists()
        assert not (new / "vocab.json").exists()
        old, read = read_checkpoint(folder), read_checkpoint(new)
        assert (read.config, read.image_std) == (old.config, old.image_std)
        assert all(torch.equal(read.state[name], tensor) for name, tensor in old.state.items())
        listing = "".join(f"{hashlib.sha256((new / name).read_bytes()).hexdigest()}  {name}\n" for name in shards)
        assert read.weights_sha256 == hashlib.sha256(listing.encode()).hexdigest()
        (new / shards[0]).unlink()
        refused(new, f"{shards[0]} of model.safetensors.index.json is missing")

    @pytest.mark.parametrize("name", ["../model.safetensors", "model.bin"])
    def test_an_index_that_leads_elsewhere(self, folder, name):
        (folder / "model.safetensors").unlink()
        write_json(folder / "model.safetensors.index.json", {"weight_map": {"logit_scale": name}})
        refused(folder, "weight_map does not name safetensors files beside it")

    def test_the_published_shape_is_open_clips_own(self, tmp_path):
        """Names, shapes and settings for ViT-B/32 but for the depth."""
        import open_clip

        config = read_checkpoint(write_hugging_face(tmp_path / "large", VIT_B_32)).config
        published = open_clip.get_model_config("ViT-B-32-quickgelu")
        assert {name: config[name] for name in ("embed_dim", "quick_gelu")} == {"embed_dim": 512, "quick_gelu": True}
        for tower in ("vision_cfg", "text_cfg"):
            known = {name: value for name, value in published[tower].items() if name != "layers"}
            assert {name: config[tower][name] for name in known} == known


class TestOpenClip:
    @pytest.mark.parametrize("config", [OPEN_CLIP_TINY, OPEN_CLIP_TINY | {"quick_gelu": True}, RESNET])
    def test_open_clips_own_features(self, tmp_path, config):
        import open_clip

        folder = write_open_clip(tmp_path / "open", config)
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        checkpoint = read_checkpoint(folder)
        assert checkpoint.preprocessing == "open_clip"
        assert preprocess is not None
        pixels, x = pixels_and_input(32)
        captions = ["a photo in Côte d’Ivoire", "", "São Tomé &amp; Príncipe"]
        with torch.inference_mode():
            images = model.eval().encode_image(x).numpy()
            texts = model.encode_text(tokenizer(captions), normalize=True).numpy()
        np.testing.assert_allclose(image_encoder(checkpoint)(pixels), images, atol=1e-5)
        np.testing.assert_allclose(TextEncoder(checkpoint)(captions), texts, atol=1e-6)

    def test_the_text_tower_may_be_a_module_of_its_own(self, hub_folder):
        before = read_checkpoint(hub_folder)

        def nest(state):
            for name in [n for n in state if not n.startswith("visual.") and n != "logit_scale"]:
                state[f"text.{name}"] = state.pop(name)

        change_weights(hub_folder, nest, "open_clip_model.safetensors")
        after = read_checkpoint(hub_folder)
        assert all(torch.equal(after.state[name], tensor) for name, tensor in before.state.items())

    def test_where_both_are_there_it_is_read(self, folder):
        write_open_clip(folder)
        assert read_checkpoint(folder).preprocessing == "open_clip"
        (folder / "open_clip_model.safetensors").unlink()
        assert read_checkpoint(folder).preprocessing == "transformers"

    def test_mean_and_deviation(self, tmp_path):
        checkpoint = read_checkpoint(write_open_clip(tmp_path / "half", mean=[0.5] * 3, std=[0.25] * 3, size=32))
        assert (checkpoint.image_mean, checkpoint.image_std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"model_cfg.text_cfg.hf_tokenizer_name": "bert"}, "text_cfg.hf_tokenizer_name='bert' is not CLIP's"),
            ({"model_cfg.text_cfg.no_causal_mask": True}, "text_cfg.no_causal_mask=True is not CLIP's"),
            ({"model_cfg.text_cfg.pool_type": "last"}, "text_cfg.pool_type='last' is not CLIP's"),
            ({"model_cfg.text_cfg.tokenizer_kwargs": {"clean": "canonicalize"}}, "tokenizer_kwargs={'clean'"),
            ({"model_cfg.multimodal_cfg": {}}, "multimodal_cfg is CoCa's"),
            ({"model_cfg.text_cfg": None}, "model_cfg has no vision_cfg or no text_cfg"),
            ({"model_cfg.embed_dim": None}, "open_clip can't build the model"),
            ({"model_cfg.vision_cfg.colour": 1}, "open_clip can't build the model .*colour"),
            ({"model_cfg.vision_cfg.width": 48}, r"visual.class_embedding has the shape \(32,\), .* asks for \(48,\)"),
            ({"model_cfg.vision_cfg.image_size": [32, 40]}, r"image_size=\[32, 40\]: only squares"),
            ({"model_cfg.text_cfg.vocab_size": 1000}, "knows 1000 tokens, CLIP's tokenizer makes 49408"),
            ({"model_cfg.vision_cfg.layers": 3}, "asks for are missing: visual.transformer.resblocks.2.*and 9 more"),
            ({"preprocess_cfg.interpolation": "bilinear"}, "interpolation='bilinear' is preprocessing that geo-ray"),
            ({"preprocess_cfg.resize_mode": "squash"}, "resize_mode='squash'"),
            ({"preprocess_cfg.size": 48}, "size=48 is not vision_cfg.image_size=32"),
            ({"preprocess_cfg": "none"}, "preprocess_cfg is 'none', not an object"),
        ],
    )
    def test_other_models_are_refused(self, hub_folder, changes, message):
        edit_json(hub_folder / "open_clip_config.json", **changes)
        refused(hub_folder, message)

    def test_pickled_weights_alone(self, hub_folder):
        (hub_folder / "open_clip_model.safetensors").rename(hub_folder / "open_clip_pytorch_model.bin")
        refused(hub_folder, r"only pickled weights are there \(open_clip_pytorch_model.bin\).*write them to open_clip_")


class TestFaults:
    def test_no_folder(self, tmp_path):
        refused(tmp_path / "nothing", "there is no such folder")

    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path, "neither config.json .* nor open_clip_config.json is there")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("model.safetensors", "model.safetensors is missing; copy the weights too"),
            ("preprocessor_config.json", "preprocessor_config.json is missing"),
            ("vocab.json", "neither tokenizer.json nor vocab.json is there"),
            ("merges.txt", "neither tokenizer.json nor merges.txt is there"),
        ],
    )
    def test_missing_files(self, folder, name, message):
        (folder / name).unlink()
        refused(folder, message)

    @pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "vocab.json"])
    @pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]"])
    def test_damaged_json(self, folder, name, content):
        (folder / name).write_bytes(content)
        refused(folder, f"{name} is damaged .*get it again")

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "clip.pth"])
    def test_pickles_are_refused_unread(self, folder, name):
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        refused(folder, rf"only pickled weights are there \({name}\), and a pickle can run code")

    @pytest.mark.parametrize("keep", [0, 7, 100, 5000])
    def test_damaged_weights(self, folder, keep):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:keep])
        refused(folder, "model.safetensors is damaged or incomplete .*get it again")

    def test_a_pointer_of_git_lfs(self, folder):
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        refused(folder, "model.safetensors is damaged or incomplete")

    def test_another_shape(self, folder):
        name = "vision_model.encoder.layers.1.self_attn.k_proj.weight"
        change_weights(folder, lambda state: state.update({name: torch.zeros(32, 31)}))
        refused(folder, rf"{name} has the shape \(32, 31\), the configuration asks for \(32, 32\)")

    def test_missing_tensors(self, folder):
        name = "text_model.final_layer_norm.bias"
        change_weights(folder, lambda state: state.pop(name))
        refused(folder, f"model.safetensors: tensors that the configuration asks for are missing: {name}$")

    def test_unexpected_tensors(self, folder):
        change_weights(folder, lambda state: state.update({"logit_bias": torch.zeros(1)}))
        refused(folder, "tensors that the configuration doesn't know: logit_bias")

    def test_quantised_weights(self, folder):
        def quantise(state):
            state["text_projection.weight"] = state["text_projection.weight"].to(torch.int8)

        change_weights(folder, quantise)
        refused(folder, r"text_projection.weight is torch.int8; quantised weights are not read")

    @pytest.mark.parametrize("value", [np.nan, np.inf, 50.0])
    def test_a_logit_scale_that_is_none(self, folder, value):
        change_weights(folder, lambda state: state.update(logit_scale=torch.tensor(value)))
        refused(folder, "logit_scale is .*, not the logarithm of a factor")

    def test_another_model(self, folder):
        edit_json(folder / "config.json", model_type="siglip")
        refused(folder, "config.json: model_type is 'siglip'")

    def test_other_preprocessing(self, folder):
        edit_json(folder / "preprocessor_config.json", resample=2)
        refused(folder, "preprocessor_config.json: resample=2")


class Bomb:
    """A pickle that would end the test run."""

    def __reduce__(self):
        return pytest.exit, ("a pickle was loaded",)


class TestTokenizer:
    def test_another_vocabulary(self, folder):
        vocabulary, _ = clip_vocabulary()
        vocabulary["paris</w>"], vocabulary["london</w>"] = vocabulary["london</w>"], vocabulary["paris</w>"]
        write_json(folder / "vocab.json", vocabulary)
        refused(folder, r"vocab.json and merges.txt: not CLIP's vocabulary: 2 tokens differ, such as \['london</w>'")

    def test_more_tokens(self, folder):
        write_json(folder / "vocab.json", clip_vocabulary()[0] | {"<place>": 49408})
        refused(folder, r"1 tokens differ, such as \['<place>'\]")

    def test_other_merges(self, folder):
        lines = (folder / "merges.txt").read_text().split("\n")
        (folder / "merges.txt").write_text("\n".join([lines[0], *lines[2:]]))
        refused(folder, "not CLIP's byte-pair merges")

    @pytest.mark.parametrize("pairs", [True, False])
    def test_the_fast_tokenizers_file(self, folder, pairs):
        """Merges are pairs, or one string in files of older versions."""
        vocabulary, merges = clip_vocabulary()
        for name in ("vocab.json", "merges.txt"):
            (folder / name).unlink()
        model = {"type": "BPE", "vocab": vocabulary, "merges": merges if pairs else [" ".join(m) for m in merges]}
        write_json(folder / "tokenizer.json", {"model": model})
        read_checkpoint(folder)
        write_json(folder / "tokenizer.json", {"model": model | {"merges": model["merges"][:-1]}})
        refused(folder, "tokenizer.json: not CLIP's byte-pair merges")

    @pytest.mark.parametrize("content", [{}, {"model": {"type": "Unigram", "vocab": [], "merges": []}}])
    def test_another_kind(self, folder, content):
        write_json(folder / "tokenizer.json", content)
        refused(folder, "tokenizer.json: not a byte-pair tokenizer")
