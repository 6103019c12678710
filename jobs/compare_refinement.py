"""What each way of refining a cell guess is worth, on the embedded data.

python jobs/compare_refinement.py --help
"""

from geo_ray.benchmarks.refinements import main

if __name__ == "__main__":
    main()
