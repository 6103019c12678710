"""The loop: many workers are one, shards are replicas, parts of a batch are the batch, and what is resumed goes on."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from geo_ray.errors import InputError, TrainingError
from geo_ray.train.config import LoopConfig
from geo_ray.train.loop import Worker, run_steps
from geo_ray.train.optimizer import freeze, learning_rate_share
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import RunFolder, complete_steps, read_streams
from geo_ray.train.task import Summary
from tests.processes import run_processes
from tests.train.pairs import Counted, Net, Pairs

CONFIG = LoopConfig(
    num_steps=50, learning_rate=1e-2, log_every=1, precision="fp32", checkpoint_every=20, validate_every=25
)
CPU = torch.device("cpu")


def trained(folder, config=CONFIG, kind="contrast", pieces=1, states=None, **stream):
    told = []
    run = RunFolder(folder)
    steps = complete_steps(run)
    if states is None:
        states = read_streams(run, steps[-1]) if steps else []
    torch.manual_seed(5)
    config = dataclasses.replace(config, accumulation=pieces)
    run_steps(
        Pairs(kind), Counted(states, pieces, **stream), config, Worker(device=CPU, folder=run, report=told.append)
    )
    if rank() == 0:
        (run.local / "told.json").write_text(json.dumps(told))


def result(folder):
    told = json.loads((folder / "told.json").read_text())
    return load_file(folder / "weights.safetensors"), [line["total"] for line in told if "total" in line]


def assert_same(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(("world", "changes"), [(3, {}), (2, {"parallel": "fsdp"})])
def test_workers_learn_what_one_learns_from_the_joint_batch(world, changes, tmp_path):
    """The losses differ (each worker has its own part's); the weights after 50 steps must not."""
    trained(tmp_path / "one")
    run_processes(trained, world, tmp_path / "many", dataclasses.replace(CONFIG, **changes))
    weights, _ = result(tmp_path / "many")
    assert_same(weights, result(tmp_path / "one")[0], 1e-4)
    assert (tmp_path / "many" / "best.safetensors").exists()


@pytest.mark.parametrize(("world", "parallel"), [(1, "ddp"), (2, "fsdp")])
def test_pieces_of_a_batch_are_the_batch(world, parallel, tmp_path):
    config = dataclasses.replace(CONFIG, parallel=parallel, num_steps=20)
    for pieces in (1, 3):
        arguments = (tmp_path / str(pieces), config, "square", pieces)
        trained(*arguments) if world == 1 else run_processes(trained, world, *arguments)
    assert_same(result(tmp_path / "3")[0], result(tmp_path / "1")[0], 1e-5)


def test_recomputed_activations_and_a_mean_of_weights(tmp_path):
    short = dataclasses.replace(CONFIG, num_steps=10)
    trained(tmp_path / "plain", short)
    trained(tmp_path / "recomputed", dataclasses.replace(short, recompute=True))
    assert_same(result(tmp_path / "recomputed")[0], result(tmp_path / "plain")[0], 1e-6)
    trained(tmp_path / "mean", dataclasses.replace(short, ema_decay=0.5))
    means, last = result(tmp_path / "mean")[0], result(tmp_path / "plain")[0]
    assert not torch.allclose(means["text.weight"], last["text.weight"])
    torch.manual_seed(0)
    first = Net().state_dict()["text.weight"]
    assert (means["text.weight"] - first).abs().sum() < (last["text.weight"] - first).abs().sum()


@pytest.mark.parametrize(
    ("workers", "changes"),
    [((1, 1), {}), ((1, 2), {"ema_decay": 0.9}), ((2, 1), {"parallel": "fsdp"})],
)
def test_what_is_resumed_ends_as_what_never_stopped(workers, changes, tmp_path):
    config = dataclasses.replace(CONFIG, **changes)
    before, after = workers
    trained(tmp_path / "whole", config)
    with pytest.raises(Exception, match="the data ended in step 46"):
        run(before, tmp_path / "cut", config, "contrast", 1, None, 45)
    assert complete_steps(RunFolder(tmp_path / "cut")) == [20, 40]
    run(after, tmp_path / "cut", config)
    told = json.loads((tmp_path / "cut" / "told.json").read_text())
    assert told[0]["step"] == 41
    assert_same(result(tmp_path / "cut")[0], result(tmp_path / "whole")[0], 1e-4)


def run(world, folder, config, kind="contrast", pieces=1, states=None, num_batches=10**6):
    arguments = (folder, config, kind, pieces, states)
    if world == 1:
        trained(*arguments, num_batches=num_batches)
    else:
        run_processes(ended_early, world, *arguments, num_batches)


def ended_early(folder, config, kind, pieces, states, num_batches):
    trained(folder, config, kind, pieces, states, num_batches=num_batches)


def test_the_same_losses_as_a_bare_loop(tmp_path):
    """What anybody would write: the losses agree step by step."""
    trained(tmp_path)
    torch.manual_seed(5)
    task, told = Pairs(), []
    decayed = [p for p in task.model.parameters() if p.ndim > 1]
    plain = [p for p in task.model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": CONFIG.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=CONFIG.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, CONFIG))
    for _, batch in zip(range(CONFIG.num_steps), Counted(), strict=False):
        total = task.losses(task.model, batch)["total"]
        total.backward()
        nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        told.append(total.item())
    np.testing.assert_allclose(result(tmp_path)[1], told, atol=1e-5)


def test_a_loss_that_is_no_number_names_its_images(tmp_path):
    with pytest.raises(TrainingError, match=r"nan in a batch of image 24, image 25.* lower learning_rate"):
        run_steps(Pairs(bad_step=3), Counted(), CONFIG, Worker(device=CPU, folder=RunFolder(tmp_path)))
    assert complete_steps(RunFolder(tmp_path)) == []


def test_only_the_last_checkpoints_stay(tmp_path):
    trained(tmp_path, dataclasses.replace(CONFIG, checkpoint_every=5, num_kept=2))
    assert complete_steps(RunFolder(tmp_path)) == [40, 45]


def test_an_unfinished_checkpoint_is_not_gone_on_from(tmp_path):
    trained(tmp_path)
    assert complete_steps(RunFolder(tmp_path)) == [20, 40]
    (tmp_path / "checkpoints" / "step-000000040" / "checkpoint.json").unlink()
    assert complete_steps(RunFolder(tmp_path)) == [20]


def test_parameters_are_frozen_by_name():
    net = Net()
    freeze(net, dataclasses.replace(CONFIG, frozen=("tower.*",), trained=("tower.2.*",)))
    trained_names = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained_names == {"tower.2.0.weight", "tower.2.0.bias", "text.weight", "text.bias", "log_logit_scale"}
    with pytest.raises(InputError, match=r"'towers\.\*' names no parameter; there are "):
        freeze(net, dataclasses.replace(CONFIG, frozen=("towers.*",)))
    with pytest.raises(InputError, match="leaves nothing to train"):
        freeze(net, dataclasses.replace(CONFIG, frozen=("*",)))


@pytest.mark.parametrize(
    ("schedule", "final", "shares"),
    [("linear", 0.0, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]), ("constant", 0.0, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
     ("cosine", 0.2, [0.5, 1.0, 1.0, 0.8829, 0.6, 0.3172])],
)  # fmt: skip
def test_schedules(schedule, final, shares):
    config = LoopConfig(num_steps=6, warmup_share=1 / 3, schedule=schedule, final_share=final)
    assert [learning_rate_share(step, config) for step in range(6)] == pytest.approx(shares, abs=1e-4)


def test_a_summary_counts_places_alike():
    found = {"cell_accuracy": np.array([1.0, 1.0, 0.0]), "error_km": np.array([1.0, 3.0, 100.0]),
             "place": np.array([7, 7, 9])}  # fmt: skip
    summary = Summary.of(found)
    assert summary.values == {"cell_accuracy": 0.5, "error_km": 3.0, "num_images": 3.0}
    assert summary.score("cell_accuracy") == 0.5
    assert summary.score("-error_km") == -3.0
    assert summary.score("recall") == -np.inf
    assert Summary.of({}).values == {}


def test_ranks_of_a_single_process():
    assert (rank(), world_size(), dist.is_initialized()) == (0, 1, False)
