"""What addresses are measured by: losses, candidates in other words, and searching many of them.

python jobs/benchmark_addresses.py --help
"""

from geo_ray.benchmarks.addresses import main

if __name__ == "__main__":
    main()
