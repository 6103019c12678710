"""``geo-ray index build``, same options: ``ray job submit --working-dir . -- python jobs/build_index.py ...``."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", "build", *sys.argv[1:]]))
