"""AddressCLIP's losses against slow ones, its texts within the context, and many workers as one."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from geo_ray.errors import InputError
from geo_ray.models.checkpoints import read_checkpoint
from geo_ray.models.losses import geography_loss
from geo_ray.models.tokenizer import clip_tokenizer
from geo_ray.train.address_task import AddressConfig, AddressTask, joined_tokens
from geo_ray.train.captions import number_of
from geo_ray.train.loop import Worker, run_steps
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import RunFolder
from tests.models.checkpoint_files import TINY, write_hugging_face
from tests.processes import run_processes
from tests.train.test_clip_task import Unvalidated

CONFIG = AddressConfig(checkpoint="", batch_size=8, precision="fp32", num_steps=2, learning_rate=1e-3, chunk=3)
CENTER = np.array([40.0, -80.0])
NAMES = ("located on Main", "located on a section of Side near Main", "located on Oak")


def rows_of(count=8, seed=0):
    rng = np.random.default_rng(seed)
    which = np.arange(count) % len(NAMES)
    return {
        "pixels": rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        "address": np.array([NAMES[n] for n in which], dtype=object),
        "caption": np.array(["a red house." if n else "" for n in which], dtype=object),
        "latitude": 40.0 + rng.normal(0, 0.01, count), "longitude": -80.0 + rng.normal(0, 0.01, count),
        "row": np.arange(count), "image_id": np.array([f"i{n}" for n in range(count)], dtype=object),
        "place": np.arange(count),
    }  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return read_checkpoint(write_hugging_face(tmp_path_factory.mktemp("clip") / "c", TINY))


def task_of(checkpoint, config=CONFIG):
    return AddressTask(config, checkpoint, rows_of(), sorted(NAMES), CENTER)


def slow_contrast(images, texts, names, scale):
    """Each image wants all texts that say the same as its own, each text all such images."""
    same = torch.tensor([[float(a == b) for b in names] for a in names])
    wanted = same / same.sum(dim=1, keepdim=True)
    logits = scale * images @ texts.T
    return sum(-(wanted * F.log_softmax(each, dim=1)).sum(dim=1).mean() for each in (logits, logits.T)) / 2


def test_the_losses_are_the_papers(checkpoint):
    task, rows = task_of(checkpoint), rows_of()
    batch = task.batch_of(rows)
    with torch.no_grad():
        found = task.losses(task.model, batch)
        pixels = batch.pixels.permute(0, 3, 1, 2).float() / 255 - torch.tensor(checkpoint.image_mean)[:, None, None]
        clip = task.model.clip
        images = F.normalize(clip.encode_image(pixels / torch.tensor(checkpoint.image_std)[:, None, None]), dim=1)
        texts, captions = (F.normalize(clip.encode_text(t), dim=1) for t in (batch.addresses, batch.captions))
    said = [f"{c} {a}" for c, a in zip(rows["caption"], rows["address"], strict=True)]
    scale = clip.logit_scale.exp().detach()
    torch.testing.assert_close(found["address"], slow_contrast(images, texts, rows["address"].tolist(), scale))
    torch.testing.assert_close(found["caption"], slow_contrast(images, captions, said, scale))
    xy = batch.xy
    scaled = (xy - xy.min(dim=0).values) / (xy.max(dim=0).values - xy.min(dim=0).values)
    apart = (scaled[:, None] - scaled[None]).abs().sum(dim=2).float()
    torch.testing.assert_close(found["geography"], ((1 - images @ images.T) - apart).square().mean())
    torch.testing.assert_close(found["total"], found["address"] + 0.2 * found["caption"] + 0.8 * found["geography"])


def test_near_in_the_world_is_near_in_features_and_as_quoted_far():
    xy = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1000.0, 1000.0]])
    alike = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert geography_loss(alike, xy, alike, xy, "near") == 0
    assert geography_loss(alike, xy, alike, xy, "quoted") > 0.9
    crossed = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert geography_loss(crossed, xy, crossed, xy, "near") > 0.5


def test_by_a_radius_the_batch_does_not_matter():
    rng = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(6, 4, generator=rng), dim=1)
    xy = 500 * torch.rand(6, 2, generator=rng)
    few = [geography_loss(images[:3], xy[:3], images[:3], xy[:3], "near", radius) for radius in (0.0, 400.0)]
    pairs = [
        geography_loss(images[a : a + 1], xy[a : a + 1], images[b : b + 1], xy[b : b + 1], "near", 400.0)
        for a in range(3) for b in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(few[1], torch.stack(pairs).mean())
    assert few[0] != few[1]
    one = torch.zeros(2, 2)
    assert torch.isfinite(geography_loss(images[:2], one, images[:2], one, "near"))  # all at one place


def test_a_long_caption_loses_its_end_and_never_its_address():
    tokenizer = clip_tokenizer("open_clip")
    address = NAMES[1]
    tokens = joined_tokens(["a very long house " * 40, "short", ""], [address] * 3, 77, "open_clip")
    for row in tokens:
        text = tokenizer.decode([number for number in row.tolist() if number])
        assert address.lower() in text
    assert tokens[0, 76] == tokenizer.eot_token_id
    assert (tokens[2] != 0).sum() == len(tokenizer.encode(address)) + 2
    with pytest.raises(InputError, match=r"the address 'very very .* has 20\d tokens, the model reads 77; shorten"):
        joined_tokens([""], ["very " * 200], 77, "open_clip")


def test_captions_alone_and_pairs_of_their_own(checkpoint):
    rows = rows_of()
    alone = task_of(checkpoint, dataclasses.replace(CONFIG, captions="alone")).batch_of(rows)
    before = task_of(checkpoint).batch_of(rows)
    assert (before.captions != 0).sum() > (alone.captions != 0).sum()
    assert (alone.captions[0] == alone.addresses[0]).all()  # without a caption the address stands for it
    own = task_of(checkpoint, dataclasses.replace(CONFIG, positives="own")).batch_of(rows)
    assert len(own.address_numbers.unique()) == 8
    assert len(before.address_numbers.unique()) == 3


def test_losses_that_weigh_nothing_are_left_out(checkpoint):
    config = dataclasses.replace(CONFIG, caption_weight=0.0, geography_weight=0.0)
    found = task_of(checkpoint, config).losses(
        task_of(checkpoint, config).model, task_of(checkpoint).batch_of(rows_of())
    )
    assert set(found) == {"total", "logit_scale", "address"}
    captions = dataclasses.replace(CONFIG, address_weight=0.0)
    both = task_of(checkpoint, captions).losses(task_of(checkpoint).model, task_of(checkpoint).batch_of(rows_of()))
    torch.testing.assert_close(both["total"], 0.2 * both["caption"] + 0.8 * both["geography"])


def test_validation_ranks_all_addresses(checkpoint):
    task = task_of(checkpoint)
    found = task.validate(task.model)
    images, texts = task.embedded(task.model, rows_of()["pixels"])
    best = np.array(sorted(NAMES), dtype=object)[(images @ texts.T).argmax(axis=1)]
    assert (found["ssa_1"] == (best == rows_of()["address"])).all()
    assert (found["ssa_5"] == 1).all()  # of three
    assert found["place"][0] == number_of(NAMES[0])
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [{"num_candidates": 0}, {"address_weight": 0.0, "caption_weight": 0.0}, {"geography_weight": -1.0}],
)
def test_settings_that_cannot_be(bad):
    with pytest.raises(ValueError, match=r"must"):
        AddressConfig(**bad)


class Drawn:
    """Joint batches of eight rows, of which each worker has its part."""

    def __init__(self, task):
        self._task = task

    def __iter__(self):
        for seed in range(10):
            mine = np.array_split(np.arange(8), world_size())[rank()]
            yield self._task.batch_of({name: values[mine] for name, values in rows_of(8, seed).items()})

    def state(self):
        return {}


def train_towers(folder, checkpoint, changes):
    config = dataclasses.replace(CONFIG, **changes)
    task = task_of(read_checkpoint(checkpoint), config)
    run_steps(Unvalidated(task), Drawn(task), config, Worker(device=torch.device("cpu"), folder=RunFolder(folder)))


def test_two_workers_learn_what_one_learns_from_the_joint_batch(tmp_path):
    """The geography of a batch, its scale too, is that of all workers' images."""
    checkpoint = write_hugging_face(tmp_path / "clip", TINY)
    train_towers(tmp_path / "one", checkpoint, {})
    run_processes(train_towers, 2, tmp_path / "two", checkpoint, {})
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=5e-4, msg=name)
