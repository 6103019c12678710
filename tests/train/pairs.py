"""A training that tests can break: two small towers, batches by number, and what ends its process on the way."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from geo_ray.models.contrastive import image_text_contrastive
from geo_ray.train.config import LoopConfig
from geo_ray.train.ranks import rank, world_size

BATCH, WIDTH = 12, 8


class Net(nn.Module):
    """Two towers of repeated blocks, and a scale."""

    def __init__(self):
        super().__init__()
        self.tower = nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(3)))
        self.text = nn.Linear(WIDTH, WIDTH)
        self.log_logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images, texts):
        features = [nn.functional.normalize(x, dim=1) for x in (self.tower(images), self.text(texts))]
        return *features, self.log_logit_scale.exp()


class Pairs:
    """Image and text of each number, the text a fixed map of the image; contrast over all workers, or a square."""

    best = "-error"

    def __init__(self, kind="contrast", bad_step=-1):
        torch.manual_seed(0)
        self.model, self._kind, self._bad_step = Net(), kind, bad_step

    def losses(self, model, batch):
        step, rows, images, texts = batch
        found, said, scale = model(images, texts)
        if self._kind == "contrast":
            facts = torch.tensor(rows)[:, None] + 1
            total = image_text_contrastive(found, said, facts, facts, scale)
        else:
            total = (found - said).square().sum(dim=1).mean() * scale
        return {"total": total * (torch.nan if step == self._bad_step else 1.0)}

    def ids(self, batch):
        return [f"image {row}" for row in batch[1]]

    def validate(self, model):
        images, texts = made(np.arange(rank(), 30, world_size()))
        found, said, _ = model(images, texts)
        return {"error": (found - said).square().sum(dim=1).numpy(), "place": np.zeros(len(images), np.int64)}


def made(rows):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4096, WIDTH, generator=generator)
    return images[rows], images[rows].roll(1, dims=1) ** 2


class Counted:
    """Joint batches of ``BATCH`` numbers after numbers, of which each worker has its part, in so many pieces.

    Before the batch of step ``kill_at`` the process ends, once: ``mark`` is a file that then is there.
    """

    def __init__(self, states=(), pieces=1, num_batches=10**6, kill_at=-1, mark=""):
        self.step = int(states[0]["step"]) if states else 0
        self._pieces, self._num_batches = pieces, num_batches
        self._kill_at, self._mark = kill_at, mark

    def __iter__(self):
        while self.step < self._num_batches:
            rows = (self.step * BATCH + np.arange(BATCH)) % 4096
            mine = np.array_split(rows, world_size())[rank()]
            self.step += 1
            if self.step == self._kill_at and rank() == world_size() - 1 and not os.path.exists(self._mark):
                Path(self._mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            for piece in np.array_split(mine, self._pieces):
                yield self.step, piece.tolist(), *made(piece)

    def state(self):
        return {"step": self.step}


@dataclass(frozen=True, kw_only=True)
class PairsWork:
    """``Pairs`` through Ray Train."""

    config: LoopConfig
    bad_step: int = -1
    kill_at: int = -1
    mark: str = ""
    pause_s: float = 0.0

    def open(self, folder, states):
        stream = Counted(states, kill_at=self.kill_at, mark=self.mark)
        return Pairs(bad_step=self.bad_step), _Paused(stream, self.pause_s)


class _Paused:
    def __init__(self, stream, pause_s):
        self._stream, self._pause_s = stream, pause_s
        self.state = stream.state

    def __iter__(self):
        import time

        for batch in self._stream:
            time.sleep(self._pause_s)
            yield batch
