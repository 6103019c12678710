"""``python -m geo_ray.cli``."""

import sys

from geo_ray.cli import main

sys.exit(main())
