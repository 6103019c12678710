"""Training through Ray Train beside a bare torch loop.

python jobs/benchmark_train.py --help
"""

from geo_ray.benchmarks.training import main

if __name__ == "__main__":
    main()
