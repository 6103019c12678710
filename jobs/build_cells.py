"""``geo-ray cells build``, same options: ``ray job submit --working-dir . -- python jobs/build_cells.py ...``."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["cells", "build", *sys.argv[1:]]))
