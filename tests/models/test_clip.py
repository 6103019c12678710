"""The encoder: one image's features do not depend on its neighbours."""

import numpy as np
import pytest
import torch

from geo_ray.models.bundle import EncoderSpec, open_bundle
from geo_ray.models.clip import ImageEncoder, create_tower, inference_dtype, open_encoder, read_weights
from geo_ray.models.preprocess import CLIP_MEAN, CLIP_STD
from geo_ray.models.towers import fold_batch_norm

SPEC = EncoderSpec(architecture="residual-tiny", image_size=32, num_features=16, micro_batch=4)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_size_and_row_order_change_not_a_bit(dtype):
    encode, pixels = encoder(dtype=dtype), images(11)
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
    with pytest.raises(ValueError, match=r"'resnet-9000' is not known; have \['residual-tiny'\]"):
        create_tower(EncoderSpec(architecture="resnet-9000", image_size=32, num_features=16))


def test_weights_are_read_by_prefix_in_single_precision():
    weights = read_weights(open_bundle("earth-tiny").path("head.safetensors"), "")
    assert set(weights) == {"weight", "bias"}
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())


def test_half_precision_only_where_it_is_computed():
    assert inference_dtype("cpu") in {torch.float32, torch.bfloat16}
