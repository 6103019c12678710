"""Which worker this is, of how many. Light to import."""

import sys
from typing import Any


def world_size() -> int:
    """How many workers there are."""
    return int(_dist().get_world_size()) if _dist() else 1


def rank() -> int:
    """This worker's number."""
    return int(_dist().get_rank()) if _dist() else 0


def _dist() -> Any:
    """Torch's processes, where they know each other."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None
