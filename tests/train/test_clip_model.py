"""A CLIP in training is the CLIP of inference, and what is written back is what others read."""

import numpy as np
import pytest
import torch

from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.clip import ImageEncoder, load_tower
from geo_ray.models.published import encoder_spec, image_tower
from geo_ray.models.texts import TextEncoder
from geo_ray.train.clip_model import ClipTowers, fitting_tokens, normalized, trained_state, write_clip
from tests.models.checkpoint_files import TINY, write_hugging_face, write_open_clip

CAPTION = "A Street View photo close to the town of Bern in the region of Bern in Switzerland."


@pytest.fixture(scope="module", params=["transformers", "open_clip"])
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    if request.param == "transformers":
        return read_checkpoint(write_hugging_face(folder / "given", TINY))
    return read_checkpoint(write_open_clip(folder / "given"))


@pytest.fixture
def towers(checkpoint):
    return ClipTowers(checkpoint.config, checkpoint.state).eval()


def test_features_are_those_of_inference(checkpoint, towers):
    spec = encoder_spec(checkpoint)
    pixels = np.random.default_rng(0).integers(0, 256, (3, spec.image_size, spec.image_size, 3), dtype=np.uint8)
    encoder = ImageEncoder(load_tower(spec, image_tower(checkpoint)), spec, "cpu", torch.float32)
    texts = [CAPTION, "", "Łódź"]
    tokens = fitting_tokens(texts, 77, checkpoint.preprocessing)
    with torch.inference_mode():
        images, said, scale = towers(
            normalized(torch.from_numpy(pixels), checkpoint.image_mean, checkpoint.image_std), tokens
        )
    np.testing.assert_allclose(images, encoder(pixels), atol=1e-5)
    np.testing.assert_allclose(said, TextEncoder(checkpoint)(texts), atol=1e-5)
    assert scale.item() == pytest.approx(checkpoint.logit_scale, rel=1e-5)


def test_what_is_written_back_transformers_and_we_read(checkpoint, towers, tmp_path):
    transformers = pytest.importorskip("transformers")
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(0.01)
    write_clip(tmp_path / "model", checkpoint, trained_state(towers.state_dict()))
    again = read_checkpoint(tmp_path / "model")
    for name, tensor in trained_state(towers.state_dict()).items():
        torch.testing.assert_close(again.state[name], tensor, msg=name)
    model = transformers.CLIPModel.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "model")
    side = checkpoint.config["vision_cfg"]["image_size"]
    pixels = torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(0))
    ids = tokenizer([CAPTION, "in France"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    tokens = fitting_tokens([CAPTION, "in France"], 77, "transformers")
    assert (ids.argmax(dim=1) == tokens.argmax(dim=1)).all()
    with torch.inference_mode():
        theirs = model(input_ids=tokens, pixel_values=pixels)
        images, texts, scale = towers(pixels, tokens)
    torch.testing.assert_close(theirs.logits_per_image, scale * images @ texts.T, rtol=1e-4, atol=1e-4)
    processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "model")
    assert list(processor.image_mean) == pytest.approx(list(checkpoint.image_mean))


def test_a_long_caption_loses_its_last_sentences_and_a_single_one_its_end():
    long = "A photo I took close to the town of " + "Llanfairpwllgwyngyll " * 5 + "in Wales."
    climate = "This location has a temperate oceanic climate. " * 6
    tokens = fitting_tokens([f"{CAPTION} {climate}", CAPTION, long * 2], 77, "open_clip")
    ends = tokens.argmax(dim=1)
    assert (ends < 77).all()
    alone = fitting_tokens([CAPTION], 77, "open_clip")[0]
    length = int(alone.argmax())
    assert (tokens[0, :length] == alone[:length]).all()  # the place is still there
    assert ends[0] < 76
    assert ends[2] == 76


def test_the_image_that_is_seen_is_normalised():
    pixels = torch.tensor([[[[255, 0, 127]]]], dtype=torch.uint8)
    found = normalized(pixels, (0.5, 0.25, 0.0), (0.5, 0.5, 1.0))
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([1.0, -0.5, 127 / 255]))
