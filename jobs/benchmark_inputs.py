"""What many inputs cost: ``python jobs/benchmark_inputs.py listing memory --json FILE``.

python jobs/benchmark_inputs.py --help
"""

from geo_ray.benchmarks.many_inputs import main

if __name__ == "__main__":
    main()
