"""What zero-shot answers cost beside encoding: building the captions' features, probing, and searching a gallery.

python jobs/benchmark_zero_shot.py --help
"""

from geo_ray.benchmarks.zero_shot_cost import main

if __name__ == "__main__":
    main()
