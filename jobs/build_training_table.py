"""``geo-ray table``, same options: ``ray job submit --working-dir . -- python jobs/build_training_table.py ...``."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["table", *sys.argv[1:]]))
