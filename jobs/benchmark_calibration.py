"""Whether what a bundle states of its answers holds: ``geo_ray.benchmarks.calibrations``."""

from geo_ray.benchmarks.calibrations import main

if __name__ == "__main__":
    main()
