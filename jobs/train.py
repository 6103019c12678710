"""``geo-ray train`` with the same options: ``ray job submit --working-dir . -- python jobs/train.py ...``."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
