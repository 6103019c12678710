"""What is known of places near and far from all known ones: the recipe, trained on each kind of split.

python jobs/compare_splits.py --help
"""

from geo_ray.benchmarks.split_kinds import main

if __name__ == "__main__":
    main()
