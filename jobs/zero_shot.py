"""Zero-shot test: satellite crops of countries that ``earth-captions`` never saw, geotagged by captions alone.

python jobs/zero_shot.py --help
"""

from geo_ray.benchmarks.unseen_countries import main

if __name__ == "__main__":
    main()
