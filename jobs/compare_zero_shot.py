"""Whether captions carry over to countries never seen: several draws of countries, with and without their borders.

python jobs/compare_zero_shot.py --help
"""

from geo_ray.benchmarks.unseen_draws import main

if __name__ == "__main__":
    main()
