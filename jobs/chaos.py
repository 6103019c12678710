"""A bulk run through faults against the same run in peace: ``python jobs/chaos.py --output DIR --json FILE``."""

import os
import sys

os.environ["RAY_AUTH_MODE"] = "disabled"  # before Ray is imported: nodes and drivers must agree

from geo_ray.benchmarks.chaos import main

if __name__ == "__main__":
    sys.exit(main())
