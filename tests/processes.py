"""Functions run by several processes that know each other through gloo."""

import socket

import torch
import torch.distributed as dist


def _main(rank, world, port, function, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    function(*arguments)
    dist.destroy_process_group()


def run_processes(function, world, *arguments):
    """Run ``function`` with these arguments in as many processes; an exception of one is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_main, (world, port, function, arguments), nprocs=world)
