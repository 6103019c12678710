"""``geo-ray geotag`` with the same options: ``ray job submit --working-dir . -- python jobs/geotag.py ...``."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["geotag", *sys.argv[1:]]))
