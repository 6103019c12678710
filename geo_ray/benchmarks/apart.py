"""``geo-ray`` with decoding, encoding and locating in processes of their own, as on GPUs, where there are only CPUs.

``python -m geo_ray.benchmarks.apart geotag ...``: a fault in any of them can be tried without a GPU.
"""

import math
import sys
from typing import Any

from geo_ray.cli import main
from geo_ray.remote import place
from geo_ray.remote.place import Place


def plan_apart(cpus: float, gpus: float, *settings: Any, **more: Any) -> Place:
    """For six CPUs two encoders and two locators; the rest reads and decodes."""
    encoders = max(1, math.floor(cpus / 3))
    return Place(num_workers=encoders, batch_size=settings[1], decode_apart=True, num_locators=encoders)


if __name__ == "__main__":
    place.plan = plan_apart
    sys.exit(main())
