"""The encoder: one image's features do not depend on its neighbours."""

import dataclasses
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geo_ray.errors import BundleError
from geo_ray.models import clip
from geo_ray.models.bundle import WEIGHTS, open_bundle
from geo_ray.models.clip import (
    ImageEncoder,
    choose_dtype,
    create_tower,
    fastest_micro_batch,
    inference_dtype,
    load_tower,
    open_encoder,
    read_weights,
    token_mean,
)
from geo_ray.models.encoder_spec import EncoderSpec
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.towers import fold_batch_norm

SPEC = EncoderSpec(architecture="residual-tiny", image_size=32, num_features=16, micro_batch=4)
CLIP = EncoderSpec(
    architecture="clip", image_size=32, num_features=24, micro_batch=4, preprocessing="open_clip",
    clip={
        "embed_dim": 24, "quick_gelu": True, "text_cfg": {"width": 64, "heads": 1, "layers": 1},
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    },
)  # fmt: skip
TOKENS = dataclasses.replace(CLIP, features="tokens", num_features=64, normalize=False)
GEOCLIP = dataclasses.replace(
    CLIP, adapter="geoclip", num_features=512,
    clip={"embed_dim": 768, "quick_gelu": False, "text_cfg": {},
          "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def encoder(spec=SPEC, dtype=torch.float32):
    torch.manual_seed(0)
    return ImageEncoder(fold_batch_norm(create_tower(spec)), spec, "cpu", dtype)


def images(n, size=32):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_features_are_the_towers_on_normalized_pixels():
    pixels = images(6)
    torch.manual_seed(0)
    tower = create_tower(SPEC).eval()
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(tower(x), dim=1)
    np.testing.assert_allclose(encoder()(pixels), expected, atol=1e-4)


@pytest.mark.parametrize("spec", [SPEC, CLIP, TOKENS], ids=["residual", "clip", "tokens"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_size_and_row_order_change_not_a_bit(spec, dtype):
    encode, pixels = encoder(spec, dtype), images(11)
    whole = encode(pixels)
    order = np.random.default_rng(1).permutation(11)
    np.testing.assert_array_equal(encode(pixels[order]), whole[order])
    for size in (1, 3, 5):
        parts = [encode(pixels[start : start + size]) for start in range(0, 11, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_shipped_tower_does_not_look_at_neighbours():
    bundle = open_bundle("earth-tiny")
    encode = open_encoder(bundle, "cpu")
    pixels = images(20, bundle.image_size)
    whole = encode(pixels)
    np.testing.assert_array_equal(np.concatenate([encode(pixels[row : row + 1]) for row in range(20)]), whole)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)


def test_no_images():
    assert encoder()(images(0)).shape == (0, 16)


def test_features_are_not_scaled_unless_asked():
    spec = EncoderSpec(architecture="residual-tiny", image_size=32, num_features=16, normalize=False)
    plain, scaled = encoder(spec)(images(3)), encoder()(images(3))
    assert np.abs(np.linalg.norm(plain, axis=1) - 1).min() > 1e-3
    np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), scaled, atol=1e-5)


def test_open_clip_towers_need_no_download():
    tower = create_tower(EncoderSpec(architecture="open_clip:ViT-S-32-alt", image_size=224, num_features=256))
    with torch.inference_mode():
        assert tower.eval()(torch.zeros((1, 3, 224, 224))).shape == (1, 256)


def test_unknown_towers_are_refused():
    with pytest.raises(ValueError, match=r"'resnet-9000' is not known; have \['residual-tiny'\], clip and open_clip:"):
        create_tower(EncoderSpec(architecture="resnet-9000", image_size=32, num_features=16))


def test_weights_are_read_by_prefix_in_single_precision():
    weights = read_weights(open_bundle("earth-tiny").path("head.safetensors"), "")
    assert set(weights) == {"weight", "bias"}
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())


def test_half_precision_only_where_it_is_computed():
    assert inference_dtype("cpu") in {torch.float32, torch.bfloat16}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", inference_dtype("cpu")), ("float32", torch.float32), ("bfloat16", torch.bfloat16),
     ("float16", torch.float16)],
)  # fmt: skip
def test_dtypes_by_name(name, expected):
    assert choose_dtype(name, "cpu") == expected


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="dtype='int8' is not known; have auto, float32, bfloat16, float16"):
        open_encoder(open_bundle("earth-tiny"), "cpu", "int8")


def bundle_of(spec, folder):
    """A bundle's encoder, and the weights it was written with."""
    torch.manual_seed(1)
    tower = create_tower(spec)
    state = {f"tower.{name}": tensor.contiguous() for name, tensor in tower.state_dict().items()}
    save_file(state | {"other.weight": torch.zeros(3)}, folder / WEIGHTS)
    return dataclasses.replace(open_bundle("earth-tiny"), encoder=spec, folder=folder), tower.eval()


class TestClip:
    def test_the_tower_is_open_clips_and_the_text_tower_is_not_built(self):
        import open_clip

        tower = create_tower(CLIP)
        expected = open_clip.CLIP(**CLIP.clip).visual.state_dict()
        assert {k: v.shape for k, v in tower.state_dict().items()} == {k: v.shape for k, v in expected.items()}
        assert all(torch.isfinite(tensor).all() for tensor in tower.state_dict().values())

    @pytest.mark.parametrize("spec", [CLIP, TOKENS, GEOCLIP], ids=["projected", "tokens", "geoclip"])
    def test_weights_come_from_the_bundle(self, tmp_path, spec):
        bundle, tower = bundle_of(spec, tmp_path)
        pixels = images(5)
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(CLIP_MEAN)[:, None, None]) / (
            torch.tensor(CLIP_STD)[:, None, None]
        )
        with torch.inference_mode():
            expected = token_mean(tower, x) if spec.features == "tokens" else tower(x)
        expected = torch.nn.functional.normalize(expected, dim=1) if spec.normalize else expected
        features = open_encoder(bundle, "cpu", "float32")(pixels)
        assert features.shape == (5, spec.num_features)
        np.testing.assert_allclose(features, expected, atol=1e-5)

    @pytest.mark.parametrize("spec", [CLIP, TOKENS, GEOCLIP], ids=["projected", "tokens", "geoclip"])
    @pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 3e-2), ("float16", 3e-3)])
    def test_half_precision(self, tmp_path, spec, dtype, tolerance):
        bundle, _ = bundle_of(spec, tmp_path)
        exact, half = (open_encoder(bundle, "cpu", name)(images(5)) for name in ("float32", dtype))
        away = np.linalg.norm(half - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert 0 < away.max() < tolerance

    def test_mean_of_tokens_by_hand(self):
        """Class token and patches alike, and neither last norm nor projection."""
        tower = create_tower(TOKENS).eval()
        x = torch.randn(2, 3, 32, 32)
        seen = []
        tower.ln_post.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        with torch.inference_mode():
            tower(x)
            mean = token_mean(tower, x)
        assert seen[0].shape == (2, 17, 64)
        torch.testing.assert_close(mean, seen[0].mean(dim=1))

    def test_the_images_mean_and_deviation(self):
        pixels = images(3)
        plain = dataclasses.replace(CLIP, image_mean=(0.0, 0.0, 0.0), image_std=(1 / 255, 1 / 255, 1 / 255))
        torch.manual_seed(0)
        tower = create_tower(plain).eval()
        with torch.inference_mode():
            expected = torch.nn.functional.normalize(tower(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()), dim=1)
        np.testing.assert_allclose(encoder(plain)(pixels), expected, atol=1e-5)
        assert np.abs(encoder(CLIP)(pixels) - encoder(plain)(pixels)).max() > 1e-2

    def test_what_is_computed_and_not_stored_is_there(self):
        """timm's rotary positions are no weights; a tower of nothing but weights would lack them."""
        spec = dataclasses.replace(CLIP, image_size=224, clip=CLIP.clip | {"vision_cfg": {
            "timm_model_name": "eva02_tiny_patch14_224", "image_size": 224, "timm_pool": "token", "timm_proj": None,
        }})  # fmt: skip
        torch.manual_seed(0)
        tower = create_tower(spec).eval()
        x = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            torch.testing.assert_close(load_tower(spec, tower.state_dict()).eval()(x), tower(x))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"clip": None}, "architecture='clip' needs clip"),
            ({"features": "tokens", "adapter": "geoclip"}, "without adapter='geoclip'"),
            ({"features": "tokens", "clip": CLIP.clip | {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 8}}},
             "features='tokens' are of a vision transformer"),
        ],
    )  # fmt: skip
    def test_what_can_not_be_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            create_tower(dataclasses.replace(CLIP, **changes))

    def test_only_the_towers_weights_are_read(self, tmp_path):
        save_file({"tower.a": torch.zeros(2, dtype=torch.float16), "tower.n": torch.tensor(3), "text.b": torch.ones(9)},
                  tmp_path / WEIGHTS)  # fmt: skip
        weights = read_weights(tmp_path / WEIGHTS, "tower.")
        assert {name: tensor.dtype for name, tensor in weights.items()} == {"a": torch.float32, "n": torch.int64}


class FakeCuda:
    """In place of ``torch.cuda``: streams that do at once what they are given, and a count of how often was waited."""

    def __init__(self):
        self.waits = 0

    def Stream(self, device):
        return SimpleNamespace(wait_event=lambda event: None, wait_stream=lambda stream: None)

    def Event(self):
        return SimpleNamespace(synchronize=self._wait, record=lambda: None)

    def _wait(self):
        self.waits += 1

    def current_stream(self, device):
        return None

    def stream(self, stream):
        return nullcontext()


@pytest.mark.parametrize("count", [0, 1, 4, 11, 20])
def test_images_on_their_way_to_a_gpu_stay_in_order(monkeypatch, count):
    """The way of a GPU with everything on the CPU: staging, padding and order are those of the plain way."""
    plain, staged, cuda = encoder(), encoder(), FakeCuda()
    monkeypatch.setattr(clip.torch, "cuda", cuda)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(staged, "_lane", lambda shape: clip.CudaLane((SPEC.micro_batch, *shape), torch.device("cpu")))
    pixels = images(count)
    pixels.setflags(write=False)  # as they come out of Ray's object store
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = staged(pixels)
    np.testing.assert_array_equal(found, plain(pixels))
    assert cuda.waits == -(-count // SPEC.micro_batch)


def test_another_micro_batch():
    spec = dataclasses.replace(SPEC, micro_batch=5)
    torch.manual_seed(0)
    few = ImageEncoder(fold_batch_norm(create_tower(SPEC)), SPEC, "cpu", torch.float32, 5)
    assert (few.micro_batch, encoder().micro_batch) == (5, 4)
    np.testing.assert_array_equal(few(images(12)), encoder(spec)(images(12)))
    few.micro_batch = 4
    np.testing.assert_array_equal(few(images(12)), encoder()(images(12)))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({16: 100.0, 32: 200.0, 64: 300.0, 128: 297.0, 256: 302.0, 512: 299.0}, 64),
        ({16: 100.0, 32: 50.0, 64: 40.0, 128: 30.0, 256: 20.0, 512: 10.0}, 16),
        ({16: 100.0, 32: 200.0}, 32),  # there is no memory for more
        ({}, 16),
    ],
)
def test_the_smallest_micro_batch_that_is_about_as_fast_as_any(monkeypatch, rates, expected):
    def rate(self):
        if self.micro_batch not in rates:
            raise torch.OutOfMemoryError
        return rates[self.micro_batch]

    monkeypatch.setattr(ImageEncoder, "rate", rate)
    encode = encoder()
    assert fastest_micro_batch(encode) == encode.micro_batch == expected


def test_a_rate_is_images_a_second():
    assert encoder().rate() > 0


def without_memory_for(monkeypatch, encode, num_images):
    """Micro-batches of more images find no memory."""
    features = encode._features

    def starved(pixels):
        if len(pixels) > num_images:
            raise torch.OutOfMemoryError
        return features(pixels)

    monkeypatch.setattr(encode, "_features", starved)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)


def test_a_micro_batch_that_finds_no_memory_is_halved_once(monkeypatch):
    said = []
    torch.manual_seed(0)
    encode = ImageEncoder(fold_batch_norm(create_tower(SPEC)), SPEC, "cpu", torch.float32, 4, said.append)
    expected = encode(images(11))
    without_memory_for(monkeypatch, encode, 2)
    np.testing.assert_allclose(encode(images(11)), expected, atol=1e-5)
    encode(images(11))
    assert said == ["a GPU has no memory for 4 images at once; it goes on with 2"]
    assert encode.micro_batch == 2


def test_one_that_still_finds_none_is_an_error(monkeypatch):
    encode = encoder()
    without_memory_for(monkeypatch, encode, 1)
    for _ in range(2):
        with pytest.raises(BundleError, match="no memory for 2 images at once; name a smaller --micro-batch"):
            encode(images(11))
