"""Hugging Face checkpoints give the features in open_clip that they give in transformers."""

import shutil

import numpy as np
import pytest
import torch

from geo_ray.errors import InputError
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.clip import ImageEncoder, load_tower
from geo_ray.models.convert import hugging_face_names, hugging_face_shapes, model_config, normalization, open_clip_state
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.texts import TextEncoder
from tests.models.checkpoint_files import (
    MEAN,
    STD,
    TINY,
    VIT_B_32,
    VIT_L_14_336,
    hugging_face_config,
    write_hugging_face,
)

CAPTIONS = [
    "A Street View photo in Côte d'Ivoire.",
    "A Street View photo close to the town of Reykjavík in the region of Capital Region in Iceland.",
    "Łódź",
    "",
]


def image_encoder(checkpoint, dtype=torch.float32, **changes):
    config = checkpoint.config
    spec = EncoderSpec(**({
        "architecture": "clip", "clip": config, "image_size": config["vision_cfg"]["image_size"], "normalize": False,
        "num_features": config["embed_dim"], "micro_batch": 2, "preprocessing": checkpoint.preprocessing,
        "image_mean": checkpoint.image_mean, "image_std": checkpoint.image_std,
    } | changes))  # fmt: skip
    state = {k.removeprefix("visual."): v for k, v in checkpoint.state.items() if k.startswith("visual.")}
    return ImageEncoder(load_tower(spec, state), spec, "cpu", dtype)


def pixels_and_input(side):
    """Two images as bytes, and as transformers' processor hands them to the model."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    scaled = (pixels / 255 - MEAN) / STD
    return pixels, torch.from_numpy(scaled).permute(0, 3, 1, 2).float()


def relative(features, expected):
    return (np.linalg.norm(features - expected, axis=1) / np.linalg.norm(expected, axis=1)).max()


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


CASES = {
    "B/32 quick": (VIT_B_32, "quick_gelu", 1e-5, 2),
    "B/32 gelu, another eps": (VIT_B_32, "gelu", 1e-3, 49407),
    "L/14 at 336 quick, another eps": (VIT_L_14_336, "quick_gelu", 1e-3, 49407),
    "L/14 at 336 gelu": (VIT_L_14_336, "gelu", 1e-5, 2),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def both(request, tmp_path_factory):
    """The same files read by us and by transformers."""
    transformers = pytest.importorskip("transformers")
    shape, act, eps, eos = request.param
    folder = write_hugging_face(
        tmp_path_factory.mktemp("clip"), shape, hidden_act=act, layer_norm_eps=eps, eos_token_id=eos
    )
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    yield read_checkpoint(folder), model, tokenizer
    shutil.rmtree(folder)  # 200 to 300 MB


class TestAgainstTransformers:
    def test_image_features(self, both):
        checkpoint, model, _ = both
        pixels, x = pixels_and_input(checkpoint.config["vision_cfg"]["image_size"])
        with torch.inference_mode():
            expected = model.get_image_features(pixel_values=x).pooler_output.numpy()
        features = image_encoder(checkpoint)(pixels)
        assert relative(features, expected) < 1e-5
        assert np.abs(unit(features) - unit(expected)).max() < 1e-5
        assert relative(image_encoder(checkpoint, torch.bfloat16)(pixels), expected) < 2e-2

    def test_mean_of_tokens(self, both):
        checkpoint, model, _ = both
        config = checkpoint.config["vision_cfg"]
        pixels, x = pixels_and_input(config["image_size"])
        with torch.inference_mode():
            expected = model.vision_model(pixel_values=x).last_hidden_state.mean(1).numpy()
        options = {"features": "tokens", "num_features": config["width"]}
        features = image_encoder(checkpoint, **options)(pixels)
        assert features.shape == (2, config["width"])
        assert relative(features, expected) < 1e-5
        assert relative(image_encoder(checkpoint, torch.bfloat16, **options)(pixels), expected) < 2e-2

    def test_text_features(self, both):
        checkpoint, model, tokenizer = both
        with torch.inference_mode():
            found = model.get_text_features(**tokenizer(CAPTIONS, padding=True, return_tensors="pt"))
        expected = unit(found.pooler_output.numpy())
        assert np.abs(TextEncoder(checkpoint)(CAPTIONS) - expected).max() < 1e-5
        assert relative(TextEncoder(checkpoint, dtype=torch.bfloat16)(CAPTIONS), expected) < 2e-2

    def test_logit_scale(self, both):
        checkpoint, model, _ = both
        assert checkpoint.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-6)


@pytest.mark.parametrize("change", [{"hidden_act": "gelu"}, {"layer_norm_eps": 1e-3}])
def test_activation_and_epsilon_show(tmp_path, change):
    """Or the comparison above would prove nothing about them."""
    first = read_checkpoint(write_hugging_face(tmp_path / "first"))
    second = read_checkpoint(write_hugging_face(tmp_path / "second", **change))
    pixels, _ = pixels_and_input(32)
    assert relative(image_encoder(first)(pixels), image_encoder(second)(pixels)) > 1e-3
    assert relative(TextEncoder(first)(CAPTIONS), TextEncoder(second)(CAPTIONS)) > 1e-3


def tiny_config(**changes):
    config = hugging_face_config(TINY, "quick_gelu", 1e-5, 2)
    for name, value in changes.items():
        *outer, last = name.split("__")
        inner = config
        for part in outer:
            inner = inner[part]
        inner[last] = value
    return config


class TestConfig:
    def test_by_hand(self):
        assert model_config(tiny_config()) == {
            "embed_dim": 24,
            "quick_gelu": True,
            "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16,
                           "mlp_ratio": 2.0, "norm_kwargs": {"eps": 1e-5}},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "layers": 2, "heads": 2,
                         "mlp_ratio": 2.5, "norm_kwargs": {"eps": 1e-5}},
        }  # fmt: skip

    def test_what_is_left_out_is_as_transformers_has_it(self):
        transformers = pytest.importorskip("transformers")
        full = transformers.CLIPConfig(text_config={}, vision_config={}).to_dict()
        assert model_config({"model_type": "clip"}) == model_config(full)

    @pytest.mark.parametrize("name", ["text_config", "vision_config"])
    def test_the_older_entry_has_the_say(self, name):
        """openai/clip-vit-large-patch14 has both, transformers reads ``text_config_dict``."""
        config = tiny_config(**{f"{name}_dict": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}})
        tower = model_config(config)[name.replace("config", "cfg")]
        assert (tower["width"], tower["layers"]) == (64, 3)

    def test_a_square_may_be_two_numbers(self):
        config = tiny_config(vision_config__image_size=[32, 32], vision_config__patch_size=[8, 8])
        assert model_config(config) == model_config(tiny_config())

    @pytest.mark.parametrize("hidden", [1, 33, 1000, 2731])
    def test_open_clip_makes_the_same_hidden_layer(self, hidden):
        config = model_config(tiny_config(vision_config__hidden_size=770, vision_config__num_attention_heads=11,
                                          vision_config__intermediate_size=hidden))  # fmt: skip
        assert int(770 * config["vision_cfg"]["mlp_ratio"]) == hidden

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"model_type": "siglip"}, "model_type is 'siglip'; only CLIPModel"),
            ({"vision_config__hidden_act": "gelu"}, "'quick_gelu' for text and 'gelu' for images"),
            ({"vision_config__hidden_act": "relu", "text_config__hidden_act": "relu"},
             "hidden_act 'relu' is not known; have quick_gelu, gelu"),
            ({"vision_config__hidden_act": [], "text_config__hidden_act": []}, r"hidden_act \[\] is not known"),
            ({"text_config__eos_token_id": 1}, "eos_token_id is 1, CLIP's is 49407"),
            ({"vision_config__num_channels": 4}, "num_channels is 4, colour images have 3"),
            ({"vision_config__image_size": [32, 48]}, r"image_size=\[32, 48\]: only squares"),
            ({"vision_config__image_size": []}, r"image_size=\[\]: only squares"),
            ({"vision_config__patch_size": 0}, "patch_size=0 must be a whole number"),
            ({"vision_config__hidden_size": "wide"}, "hidden_size='wide' must be a whole number"),
            ({"vision_config__hidden_size": 33}, "hidden_size=33 is no multiple of num_attention_heads=2"),
            ({"text_config__num_hidden_layers": True}, "num_hidden_layers=True must be a whole number"),
            ({"text_config__layer_norm_eps": 0}, "text_config.layer_norm_eps=0 must be"),
            ({"projection_dim": None}, "projection_dim=None must be a whole number"),
            ({"text_config": "a"}, "text_config is 'a', not an object"),
        ],
    )  # fmt: skip
    def test_what_open_clip_can_not_do_is_refused(self, changes, message):
        with pytest.raises(InputError, match=message):
            model_config(tiny_config(**changes))


class TestTensors:
    def test_names(self):
        assert hugging_face_names("visual.proj") == ("visual_projection.weight",)
        assert hugging_face_names("transformer.resblocks.11.mlp.c_fc.bias") == (
            "text_model.encoder.layers.11.mlp.fc1.bias",
        )
        assert hugging_face_names("visual.transformer.resblocks.0.attn.in_proj_weight") == tuple(
            f"vision_model.encoder.layers.0.self_attn.{part}_proj.weight" for part in "qkv"
        )
        with pytest.raises(ValueError, match=r"'visual\.attnpool\.proj' is no tensor of open_clip's CLIP"):
            hugging_face_names("visual.attnpool.proj")

    def test_shapes_and_values(self):
        shapes = {"visual.proj": (4, 3), "transformer.resblocks.0.attn.in_proj_bias": (6,), "logit_scale": ()}
        own = hugging_face_shapes(shapes)
        block = "text_model.encoder.layers.0.self_attn"
        assert own == {"visual_projection.weight": (3, 4), "logit_scale": (), f"{block}.q_proj.bias": (2,),
                       f"{block}.k_proj.bias": (2,), f"{block}.v_proj.bias": (2,)}  # fmt: skip
        state = {name: torch.randn(shape) for name, shape in own.items()}
        converted = open_clip_state(state, list(shapes))
        assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == shapes
        assert converted["visual.proj"][2, 1] == state["visual_projection.weight"][1, 2]
        assert converted["visual.proj"].is_contiguous()
        assert converted["transformer.resblocks.0.attn.in_proj_bias"][2] == state[f"{block}.k_proj.bias"][0]


PROCESSOR = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 3,
             "image_mean": [0.5, 0.25, 0.125], "image_std": [1, 2, 4]}  # fmt: skip


class TestNormalization:
    def test_by_hand(self):
        assert normalization(PROCESSOR, 32) == ((0.5, 0.25, 0.125), (1.0, 2.0, 4.0))
        assert normalization(PROCESSOR | {"size": 32, "crop_size": 32, "image_mean": 0.5}, 32)[0] == (0.5, 0.5, 0.5)
        assert normalization({}, 224) == (tuple(MEAN), tuple(STD))

    @pytest.mark.parametrize("kind", ["CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPImageProcessorFast"])
    def test_names_of_clips_processor(self, kind):
        for entry in ("image_processor_type", "feature_extractor_type"):
            assert normalization(PROCESSOR | {entry: kind}, 32) == normalization(PROCESSOR, 32)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image_processor_type": "ViTImageProcessor"}, "'ViTImageProcessor' is not CLIP's"),
            ({"resample": 2}, "resample=2 is preprocessing that geo-ray lacks"),
            ({"do_center_crop": False}, "do_center_crop=False"),
            ({"do_resize": False}, "do_resize=False"),
            ({"do_normalize": False}, "do_normalize=False"),
            ({"do_rescale": False}, "do_rescale=False"),
            ({"rescale_factor": 1 / 127.5}, "rescale_factor=0.0078"),
            ({"size": 36}, "size=36 .*image_size=32"),
            ({"size": {"height": 32, "width": 32}}, "size={'height': 32, 'width': 32}"),
            ({"crop_size": {"height": 32, "width": 30}}, "crop_size={'height': 32, 'width': 30}"),
            ({"image_mean": [0.5, 0.5]}, r"\[0.5, 0.5\] of an image is not three numbers"),
            ({"image_std": [0.5, 0.5, 0]}, r"\[0.5, 0.5, 0\] of an image is not three numbers above 0"),
            ({"image_std": "wide"}, "'wide' of an image is not three numbers"),
        ],
    )
    def test_other_preprocessing_is_refused(self, changes, message):
        with pytest.raises(InputError, match=message):
            normalization(PROCESSOR | changes, 32)

    def test_the_default_size_is_224(self):
        with pytest.raises(InputError, match="size=None is preprocessing"):
            normalization({}, 336)
