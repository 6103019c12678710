"""``geo-ray address build``, same options: ``ray job submit --working-dir . -- python jobs/build_addresses.py ...``."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["address", "build", *sys.argv[1:]]))
