"""Semantic, rectangular and S2 cells on the embedded data, about as many of each: what the partition is worth.

python jobs/compare_cells.py --help
"""

from geo_ray.benchmarks.partition_kinds import main

if __name__ == "__main__":
    main()
