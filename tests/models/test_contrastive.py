"""Contrast of images and captions: by hand, in chunks, and over several workers as in one process."""

import itertools
import math
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from geo_ray.models.contrastive import Contrast, holds, image_text_contrastive

SCALE = torch.tensor(14.0)


def unit(seed, n=6, d=8):
    return F.normalize(torch.randn((n, d), generator=torch.Generator().manual_seed(seed)), dim=1)


def numbered(*captions):
    """Captions as numbers of one part: equal ones are each other's positives, no others."""
    numbers = torch.tensor(captions)[:, None]
    return numbers, numbers


def facts(n=12, parts=3, seed=2):
    """What is true of images, few values a part, and captions that name about half of it, at least one part."""
    rng = np.random.default_rng(seed)
    true = rng.integers(1, 3, (n, parts))
    said = np.where(rng.random((n, parts)) < 0.5, true, 0)
    said[:, 0] = np.where(said.any(axis=1), said[:, 0], true[:, 0])
    return torch.from_numpy(true), torch.from_numpy(said)


def by_hand(images, texts, true, said, loss="infonce"):
    """The loss pair by pair in plain floats."""
    logits = (SCALE * images @ texts.T).double().tolist()
    n = len(images)
    right = [[all(s in (0, t) for t, s in zip(true[i].tolist(), said[j].tolist(), strict=True)) for j in range(n)]
             for i in range(n)]  # fmt: skip
    if loss == "sigmoid":
        pairs = itertools.product(range(n), range(n))
        return sum(math.log1p(math.exp(-logits[i][j] if right[i][j] else logits[i][j])) for i, j in pairs) / n
    total = 0.0
    for turned in (False, True):
        for i in range(n):
            row = [logits[j][i] if turned else logits[i][j] for j in range(n)]
            wanted = [right[j][i] if turned else right[i][j] for j in range(n)]
            rest = math.log(sum(math.exp(value) for value in row))
            total += sum(rest - value for value, is_right in zip(row, wanted, strict=True) if is_right) / sum(wanted)
    return total / (2 * n)


def test_a_caption_holds_where_it_says_nothing_else():
    true = torch.tensor([[1, 10, 100], [1, 20, 200], [2, 30, 200]])
    said = torch.tensor([[1, 0, 0], [1, 20, 0], [0, 0, 200], [2, 10, 0]])
    assert holds(true, said).tolist() == [
        [True, False, False, False],
        [True, True, True, False],
        [False, False, True, False],
    ]


def test_distinct_captions_give_clips_loss():
    images, texts = unit(0), unit(1)
    loss = image_text_contrastive(images, texts, *numbered(3, 1, 4, 9, 2, 5), SCALE)
    logits = SCALE * images @ texts.T
    each = [F.cross_entropy(side, torch.arange(6)).item() for side in (logits, logits.T)]
    assert loss.item() == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
@pytest.mark.parametrize("chunk", [1024, 5, 1])
def test_loss_is_that_by_hand_in_any_chunks(loss, chunk):
    images, texts = unit(0, 12), unit(1, 12)
    found = image_text_contrastive(images, texts, *facts(), SCALE, Contrast(loss=loss, chunk=chunk))
    assert found.item() == pytest.approx(by_hand(images, texts, *facts(), loss), rel=1e-5)


def test_a_caption_of_all_is_nothing_to_learn():
    equal = unit(0, 1).repeat(4, 1)
    loss = image_text_contrastive(equal, equal, *numbered(7, 7, 7, 7), SCALE)
    assert loss.item() == pytest.approx(math.log(4), rel=1e-5)


def test_chunks_have_the_gradient_of_the_whole():
    gradients = []
    for chunk in (1024, 5):
        images, texts, scale = (each.clone().requires_grad_() for each in (unit(0, 12), unit(1, 12), SCALE))
        image_text_contrastive(images, texts, *facts(), scale, Contrast(chunk=chunk)).backward()
        gradients.append((images.grad, texts.grad, scale.grad))
    for whole, part in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, part, rtol=1e-5, atol=1e-6)


def test_a_reference_size_contrasts_few_pairs_at_a_time():
    images, texts, (true, said) = unit(0, 10), unit(1, 10), facts(10)
    found = image_text_contrastive(images, texts, true, said, SCALE, Contrast(reference_size=4))
    parts = [slice(0, 4), slice(4, 8), slice(8, 10)]
    wanted = sum(by_hand(images[part], texts[part], true[part], said[part]) * len(images[part]) for part in parts) / 10
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_a_bias_moves_every_logit():
    images, texts = unit(0), unit(1)
    loss = image_text_contrastive(
        images, texts, *numbered(*range(1, 7)), SCALE, Contrast(loss="sigmoid"), logit_bias=torch.tensor(-10.0)
    )
    z = SCALE * images @ texts.T - 10
    assert loss.item() == pytest.approx(-F.logsigmoid(z * (2 * torch.eye(6) - 1)).sum().item() / 6, rel=1e-5)


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"reference_size": -1}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="chunk from 1"):
        Contrast(**wrong)


def step(rank, inputs, contrast):
    """The loss of one worker's rows through a layer that both sides share, and its gradients."""
    images, texts, true, said = inputs
    torch.manual_seed(0)
    layer = torch.nn.Linear(images.shape[1], 5, bias=False)
    scale = torch.nn.Parameter(SCALE.clone())
    loss = image_text_contrastive(
        F.normalize(layer(images), dim=1), F.normalize(layer(texts), dim=1), true, said, scale, contrast
    )
    loss.backward()
    return loss.detach(), layer.weight.grad, scale.grad


def worker(rank, world, port, contrast, path):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    inputs = tuple(each.chunk(world)[rank] for each in (unit(0, 12), unit(1, 12), *facts()))
    found = [each.clone() for each in step(rank, inputs, contrast)]
    for each in found:
        dist.all_reduce(each)  # the mean over workers, as DDP has it
    found = [each / world for each in found]
    if rank == 0:
        torch.save(found, path)
    dist.destroy_process_group()


@pytest.mark.parametrize(("world", "loss", "chunk"), [(2, "infonce", 1024), (3, "infonce", 3), (2, "sigmoid", 4)])
def test_workers_together_have_the_loss_and_gradient_of_one(world, loss, chunk, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    contrast, path = Contrast(loss=loss, chunk=chunk), tmp_path / "found.pt"
    torch.multiprocessing.spawn(worker, (world, port, contrast, str(path)), nprocs=world)
    alone = step(0, (unit(0, 12), unit(1, 12), *facts()), Contrast(loss=loss))
    for found, wanted in zip(torch.load(path), alone, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    local = step(0, tuple(each.chunk(world)[0] for each in (unit(0, 12), unit(1, 12), *facts())), contrast)
    assert not torch.allclose(local[1], alone[1], rtol=1e-2)  # negatives of one worker are another loss
