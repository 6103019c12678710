"""How many GPUs one driver keeps busy: the bulk job's stream, with workers that sleep for as long as a GPU would take.

python jobs/simulate_scale.py --help
"""

from geo_ray.benchmarks.scale import main

if __name__ == "__main__":
    main()
