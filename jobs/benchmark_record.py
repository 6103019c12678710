"""What a run's record costs on S3: ``python jobs/benchmark_record.py --num-parts 100000 --before 74acec3``.

python jobs/benchmark_record.py --help
"""

from geo_ray.benchmarks.record import main

if __name__ == "__main__":
    main()
