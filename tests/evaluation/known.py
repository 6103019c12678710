"""Made-up answers to images of known places, with the truth that they were drawn from."""

import numpy as np

from geo_ray.evaluation.bootstrap import Groups
from geo_ray.evaluation.calibration import KnownAnswers

NUM_CANDIDATES = 4


def known_answers(num_places=400, seed=0, most=6, sharpness=2.0):
    """Places of 1 to ``most`` images and one of a hundred times as many, whose errors grow with the feature distance.

    An image's error is of its place for the most part. Candidates are ranked by true probabilities to the power of
    ``sharpness``, and one of ten images is of none of them.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, num_places)
    sizes[0] = 100 * most
    numbers = np.repeat(np.arange(num_places), sizes)
    n = len(numbers)
    distance = 0.1 + rng.exponential(0.1, num_places)[numbers] * rng.uniform(0.8, 1.2, n)
    error = np.exp(2 + 4 * distance + 0.8 * rng.normal(0, 1, num_places)[numbers] + 0.2 * rng.normal(0, 1, n))
    p = rng.dirichlet(np.full(NUM_CANDIDATES, 0.5), n)
    p = -np.sort(-p, axis=1)
    drawn = (rng.random(n)[:, None] > np.cumsum(p, axis=1)).sum(axis=1).clip(max=NUM_CANDIDATES - 1)
    true_candidate = np.where(rng.random(n) < 0.1, -1, drawn)
    ranked = p**sharpness / (p**sharpness).sum(axis=1, keepdims=True)
    same = np.zeros((n, NUM_CANDIDATES), bool)
    same[:, :2] = True
    in_two = (true_candidate >= 0) & (true_candidate < 2)
    return KnownAnswers(
        groups=Groups(numbers=numbers, described="made up"),
        error_km=error,
        feature_distance=distance,
        spread_km=rng.exponential(5, n),
        candidate_probability=ranked,
        winner=np.zeros(n, np.int64),
        true_candidate=true_candidate,
        same_region=same,
        same_country=same,
        right_region=in_two,
        right_country=in_two,
    )
