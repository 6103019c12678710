"""A model over the workers of a run: replicated (DDP) or sharded (FSDP2), with what saves memory or time."""

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from geo_ray.train.config import LoopConfig
from geo_ray.train.ranks import world_size

IN_FULL = ("head", "heads")  # modules of a model that compute in float32 whatever the rest does


def parallelised(model: nn.Module, config: LoopConfig, device: torch.device) -> nn.Module:
    """The model on this worker's device, its gradients those of all workers' batches.

    Batch norm counts all workers' images on GPUs, and each worker's own on CPUs, where torch has no other.
    """
    model = model.to(device)
    if world_size() == 1 or config.parallel == "ddp":  # FSDP has no parameters in another order than C's
        model = model.to(memory_format=torch.channels_last)
    if world_size() > 1 and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    for block in blocks_of(model):
        if config.recompute:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if config.compile:
            block.compile()
    if world_size() == 1:
        return model
    if config.parallel == "ddp":
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
    return _sharded(model, config, device)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The layers that a model repeats: what sharding, recomputing and compiling go by."""
    rows = (m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential))
    return [block for row in rows if len(row) > 1 and len({type(block) for block in row}) == 1 for block in row]


def _sharded(model: nn.Module, config: LoopConfig, device: torch.device) -> nn.Module:
    mesh = init_device_mesh(device.type, (world_size(),))
    half = torch.bfloat16 if config.precision == "bf16" and device.type == "cuda" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if half else None)
    for name, module in model.named_children():
        if name in IN_FULL:
            fully_shard(module, mesh=mesh)
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}  # which can't be sharded
    fully_shard(model, mesh=mesh, mp_policy=policy, ignored_params=scalars)
    return model


def average_whole_gradients(model: nn.Module) -> None:
    """Average over workers the gradients of what a sharded model has whole, its scalars; others are averaged."""
    if not isinstance(model, FSDPModule):
        return
    for parameter in model.parameters():
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            dist.all_reduce(parameter.grad)
            parameter.grad /= world_size()


@contextlib.contextmanager
def gradients_kept_apart(model: nn.Module, apart: bool) -> Iterator[None]:
    """While the context lasts, gradients are summed on each worker alone, where they are to be kept ``apart``."""
    if not apart or world_size() == 1:
        yield
    elif isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        assert isinstance(model, FSDPModule)
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without the wrapper of data parallelism."""
    return model.module if isinstance(model, DistributedDataParallel) else model
