"""``python -m geo_ray.cli``."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
