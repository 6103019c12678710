"""``geo-ray geotag`` as a job: ``ray job submit --working-dir . -- python jobs/geotag.py ...`` takes the same options."""

import sys

from geo_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["geotag", *sys.argv[1:]]))
