"""What each part of PIGEON's method is worth on the embedded data: a table by place, over three seeds.

python jobs/ablate.py --help
"""

from geo_ray.benchmarks.ablation import main

if __name__ == "__main__":
    main()
