"""``geo-ray train`` as a job: ``ray job submit --working-dir . -- python jobs/train.py ...`` takes the same options."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
