"""What images cost that end the process they are decoded in: ``python jobs/benchmark_poison.py --json FILE``.

python jobs/benchmark_poison.py --help
"""

import sys

from geo_ray.benchmarks.poison import main

if __name__ == "__main__":
    sys.exit(main())
