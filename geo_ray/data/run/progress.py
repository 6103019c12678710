"""How far a bulk run is: a bar on a terminal, a line a minute elsewhere, and what took how long."""

import sys
import time
from collections import Counter, defaultdict
from typing import Any

from tqdm import tqdm

from geo_ray.data.run.coordinator import Listed
from geo_ray.data.run.worker import Answered

LINE_EVERY_S = 60.0


class RunProgress:
    """Counts the blocks of one run and shows them; ``say`` prints the line of every minute, and may write it down."""

    def __init__(self, num_done: int, say: Any = print, every_s: float = LINE_EVERY_S) -> None:
        self.num_rows, self.num_before = 0, num_done
        self.problems: Counter[str] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self._say, self._every_s = say, every_s
        self._start = self._said_at = time.monotonic()
        self._bar = tqdm(desc="geotag", unit=" images", initial=num_done, disable=None, smoothing=0.05)

    def see(self, answered: Answered, listed: Listed) -> None:
        """Count a block."""
        self.num_rows += answered.num_rows
        self.problems.update(answered.problems)
        for stage, seconds in answered.seconds.items():
            self.seconds[stage] += seconds
        if listed.complete and listed.num_rows and self._bar.total is None:
            self._bar.total = listed.num_rows
        self._bar.update(answered.num_rows)
        if self._bar.disable and time.monotonic() > self._said_at + self._every_s:
            self._said_at = time.monotonic()
            self._say(self.line(listed))

    def line(self, listed: Listed) -> str:
        """How far the run is, in words."""
        elapsed = time.monotonic() - self._start
        rate, done = self.num_rows / max(elapsed, 1e-9), self.num_before + self.num_rows
        failed = sum(self.problems.values())
        text = f"{done:,} images done, {failed:,} of these with a problem, {rate:,.0f} images/s"
        if not listed.complete or not listed.num_rows:
            return f"{text}; inputs are still being listed" if not listed.complete else text
        left = max(0, listed.num_rows - done)
        return f"{text}; {left:,} left, about {_duration(left / max(rate, 1e-9))}"

    def stages(self) -> dict[str, dict[str, float]]:
        """By stage: seconds of all workers together, and how many images one of them does a second."""
        return {
            name: {"seconds": round(taken, 3), "images_per_second": round(self.num_rows / taken, 1)}
            for name, taken in self.seconds.items()
            if taken > 0
        }

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{max(1, minutes)} min"
