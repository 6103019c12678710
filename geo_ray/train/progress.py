"""What a person watches: a line a report, on the terminal, as JSON, and where asked for in TensorBoard and MLflow."""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from geo_ray.errors import InputError
from geo_ray.train.run_folder import PROGRESS, RunFolder

POLL_S = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watching:
    """Who else is told the figures: a folder of TensorBoard's, an experiment of MLflow's."""

    tensorboard: str = ""
    mlflow: str = ""

    def __post_init__(self) -> None:
        from importlib.util import find_spec

        for name in ("tensorboard", "mlflow"):
            if getattr(self, name) and find_spec(name) is None:
                raise InputError(f"{name} is not installed: pip install 'geo-ray[watch]'")


class Progress:
    """Writes a line a report; what the first worker of a run calls with the mean over all."""

    def __init__(self, folder: RunFolder, watching: Watching) -> None:
        self._folder, self._watching = folder, watching
        self._lines = read_progress(folder)
        self._board: Any = None

    def __call__(self, figures: dict[str, float]) -> None:
        """Write the line; those of steps that are taken again go."""
        self._lines = [line for line in self._lines if line["step"] < figures["step"] or _other(line, figures)]
        self._lines.append(figures | {"time": time.time()})
        self._folder.write(PROGRESS, "".join(f"{json.dumps(line)}\n" for line in self._lines).encode())
        self._tell(figures)

    def _tell(self, figures: dict[str, float]) -> None:
        step = round(figures["step"])
        if self._watching.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = self._board or SummaryWriter(self._watching.tensorboard)
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        if self._watching.mlflow:
            import mlflow

            if mlflow.active_run() is None:
                mlflow.set_experiment(self._watching.mlflow)
                mlflow.start_run()
            mlflow.log_metrics({name.replace("@", "_at_"): value for name, value in figures.items()}, step=step)


def _other(line: dict[str, float], new: dict[str, float]) -> bool:
    """Whether two lines of a step say different things: what was learned, and what validation found."""
    return line["step"] == new["step"] and _is_validation(line) != _is_validation(new)


def _is_validation(line: dict[str, float]) -> bool:
    return any(name.startswith("validation ") for name in line)


def read_progress(folder: RunFolder) -> list[dict[str, float]]:
    """The lines of a run so far."""
    return [json.loads(line) for line in (folder.read(PROGRESS) or b"").decode().splitlines()]


@contextmanager
def following(folder: RunFolder, num_steps: int, say: Callable[[str], None]) -> Iterator[None]:
    """Says every line of progress that appears in the folder while the context lasts."""
    done = threading.Event()
    said = {_line_key(line) for line in read_progress(folder)}

    def follow() -> None:
        last = False
        while not last:
            last = done.wait(POLL_S)
            for line in read_progress(folder):
                if _line_key(line) not in said:
                    said.add(_line_key(line))
                    say(progress_text(line, num_steps))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _line_key(line: dict[str, float]) -> tuple[float, ...]:
    return line["step"], line["time"]


def progress_text(line: dict[str, float], num_steps: int) -> str:
    """A line of progress for people."""
    step = round(line["step"])
    if _is_validation(line):
        found = {name.removeprefix("validation "): value for name, value in line.items()}
        told = ", ".join(f"{name} {value:.4g}" for name, value in found.items() if name not in ("step", "time"))
        return f"step {step:,}: validation: {told}"
    rate = line.get("images_per_second", 0.0)
    losses = {name: v for name, v in line.items() if name not in ("step", "time", "images_per_second")}
    per_step = line.get("images_per_step", 0.0)
    left = (num_steps - step) * per_step / rate if rate and per_step else 0.0
    eta = f", {_duration(left)} left" if left else ""
    named = ", ".join(f"{'loss' if name == 'total' else name} {value:.3g}" for name, value in losses.items()
                      if name != "images_per_step")  # fmt: skip
    return f"step {step:,} of {num_steps:,}: {named}; {rate:,.0f} images/s{eta}"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02.0f} s"
