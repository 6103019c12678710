"""Checkpoints that all workers write together, from which a run goes on with as many workers as there are then.

A checkpoint is complete once its ``checkpoint.json`` is there, which is written last. Weights and the optimiser's state
are ``torch.distributed.checkpoint``'s; ``streams.pt`` is how far each worker's data were.
"""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.state_dict_saver import save as save_state

from geo_ray.train.optimizer import MeanWeights
from geo_ray.train.ranks import rank, world_size
from geo_ray.train.run_folder import COMPLETE, STREAMS, RunFolder, checkpoint_name, complete_steps


class Checkpoints:
    """Writes and reads a run's checkpoints; every worker makes the same calls in the same order."""

    def __init__(self, folder: RunFolder, num_kept: int) -> None:
        self._folder, self._num_kept = folder, num_kept
        self._apart: Any = (
            dist.new_group(backend="gloo") if world_size() > 1 else None
        )  # a thread writes beside the steps
        self._writing: Future[Any] | None = None

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        mean: MeanWeights | None,
        stream: dict[str, Any],
        told: dict[str, Any],
    ) -> None:
        """Begin to write a checkpoint; it is complete some time later, at the latest after ``finish``."""
        self.finish()
        streams = self._gathered(stream)
        name = checkpoint_name(step)
        if rank() == 0:
            self._folder.delete(name)  # what another run left unfinished
            buffer = io.BytesIO()
            torch.save(streams, buffer)
            self._folder.write(f"{name}/{STREAMS}", buffer.getvalue())
        if self._apart is not None:
            dist.barrier(self._apart)
        state = _state(model, optimizer, mean)
        if world_size() == 1 and not dist.is_initialized():
            with _alone():
                save_state(state, checkpoint_id=self._folder.address(name), no_dist=True)
            self._complete(step, told)
            return
        writing: Any = async_save(state, checkpoint_id=self._folder.address(name), process_group=self._apart)
        self._writing = writing
        if rank() == 0:
            writing.add_done_callback(lambda done: None if done.exception() else self._complete(step, told))

    def finish(self) -> None:
        """Wait until what was begun is complete."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None
        if self._apart is not None:
            dist.barrier(self._apart)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, mean: MeanWeights | None) -> int:
        """Go back to the last complete checkpoint; returns its step, 0 where there is none."""
        steps = [complete_steps(self._folder)] if rank() == 0 else [[]]
        if self._apart is not None:
            dist.broadcast_object_list(steps, group=self._apart)
        if not steps[0]:
            return 0
        step = steps[0][-1]
        state = _state(model, optimizer, mean)
        with _alone():
            load_state(
                state, checkpoint_id=self._folder.address(checkpoint_name(step)), no_dist=not dist.is_initialized()
            )
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        if mean is not None:
            mean.weights = state["mean"]
        return int(step)

    def _complete(self, step: int, told: dict[str, Any]) -> None:
        self._folder.write(f"{checkpoint_name(step)}/{COMPLETE}", (json.dumps({"step": step} | told) + "\n").encode())
        for old in complete_steps(self._folder)[: -self._num_kept]:
            self._folder.delete(checkpoint_name(old))

    def _gathered(self, stream: dict[str, Any]) -> list[dict[str, Any]]:
        if self._apart is None:
            return [stream]
        every: list[Any] = [None] * world_size()
        dist.all_gather_object(every, stream, group=self._apart)
        return every


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Drops the warning that a process without others saves or loads as one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, mean: MeanWeights | None) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments} | ({} if mean is None else {"mean": mean.weights})


def write_weights(model: nn.Module, folder: RunFolder, name: str) -> None:
    """Write the whole model's weights as safetensors, by the first worker; all have to call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    if rank() == 0:
        folder.write(name, save({key: t.detach().contiguous().cpu() for key, t in state.items()}))
