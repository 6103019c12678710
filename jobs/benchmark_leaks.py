"""Planted near-duplicates, and how many are found: ``geo_ray.benchmarks.planted_leaks``."""

from geo_ray.benchmarks.planted_leaks import main

if __name__ == "__main__":
    main()
