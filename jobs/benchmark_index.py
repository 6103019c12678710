"""Benchmark of building a prototype index from 25,000 to 400,000 images: seconds and memory of all processes.

python jobs/benchmark_index.py --help
"""

from geo_ray.benchmarks.index_builds import main

if __name__ == "__main__":
    main()
