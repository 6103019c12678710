"""Benchmarks of cells: building them (100,000 places, a million, eight countries) and looking places up.

python jobs/benchmark_cells.py --help
"""

from geo_ray.benchmarks.cells import main

if __name__ == "__main__":
    main()
