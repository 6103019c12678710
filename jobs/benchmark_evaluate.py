"""Evaluating as many predictions as a large job makes: how long it takes, and in how much memory.

python jobs/benchmark_evaluate.py --help
"""

from geo_ray.benchmarks.evaluation_scale import main

if __name__ == "__main__":
    main()
