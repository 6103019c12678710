"""GeoGuessr duels between two sets of guesses on the same images.

Each round both sides score by ``geoguessr_points``; the better one's lead, times a multiplier that grows in the later
rounds, is taken from the other's health. Who has none left has lost. PIGEON's 458 matches were such (arXiv 2307.05845,
section 4).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from geo_ray.errors import InputError
from geo_ray.evaluation.bootstrap import LEVEL, Bootstrap, Groups, Measure, interval
from geo_ray.evaluation.comparison import Comparison, compare
from geo_ray.evaluation.differences import common_images
from geo_ray.evaluation.tables import Truth, read_predictions
from geo_ray.geo.metrics import geoguessr_points, none_if_nan


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The game's: health of both sides, rounds before the multiplier grows, and by how much a round it does."""

    health: int = 6000
    plain_rounds: int = 4
    step: float = 0.5

    def __post_init__(self) -> None:
        if self.health < 1 or self.plain_rounds < 0 or self.step < 0:
            raise InputError(f"{self} makes no game: health must be at least 1, and nothing below 0")

    def multiplier(self, number: int) -> float:
        """What the lead counts in a round, of which the first is 1."""
        return 1.0 + self.step * max(0, number - self.plain_rounds)


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round: the image, both errors (km, NaN for no guess), both scores, and both healths after it."""

    image: int
    error_km: tuple[float, float]
    points: tuple[int, int]
    multiplier: float
    health: tuple[float, float]


def play(error_km: Float64[np.ndarray, "n 2"], images: Int[np.ndarray, "r"], rules: Rules) -> list[Round]:
    """One match over these images in turn, until one side has no health left or there are no more."""
    points = np.stack([geoguessr_points(error_km[:, side]) for side in range(2)], axis=1).astype(int)
    health = [float(rules.health)] * 2
    rounds = []
    for number, image in enumerate(images.tolist(), 1):
        lead, multiplier = int(points[image, 0] - points[image, 1]), rules.multiplier(number)
        if lead:
            loser = 1 if lead > 0 else 0
            health[loser] = max(0.0, health[loser] - abs(lead) * multiplier)
        rounds.append(
            Round(
                image=image,
                error_km=(float(error_km[image, 0]), float(error_km[image, 1])),
                points=(int(points[image, 0]), int(points[image, 1])),
                multiplier=multiplier,
                health=(health[0], health[1]),
            )
        )
        if min(health) == 0:
            break
    return rounds


def matches(
    error_km: Float64[np.ndarray, "n 2"], groups: Groups, num_matches: int, num_rounds: int, rules: Rules, seed: int = 0
) -> Iterator[list[Round]]:
    """Matches of at most so many rounds, each of another place, by an image of it that is drawn."""
    rng = np.random.default_rng(seed)
    by_group = np.argsort(groups.numbers, kind="stable")
    starts = np.concatenate([[0], np.cumsum(groups.sizes)])
    for _ in range(num_matches):
        places = rng.permutation(groups.count)[:num_rounds]
        yield play(error_km, by_group[starts[places] + rng.integers(0, groups.sizes[places])], rules)


def winner(rounds: list[Round]) -> int | None:
    """0 or 1, whose health is larger at the end; None for a draw."""
    first, second = rounds[-1].health
    return None if first == second else int(second > first)


def duel(
    first: str | Path, second: str | Path, truth: Truth, rules: Rules, num_matches: int, num_rounds: int, seed: int = 0
) -> dict[str, Any]:
    """Matches between two files of predictions, or of guesses with the same ids; wins, points and a match's rounds.

    A guess without an answer scores nothing; images that only one of the two has are left out. ``InputError`` where
    they have none in common.
    """
    a, b = common_images(*(compare(read_predictions(each), truth) for each in (first, second)))
    error_km = np.stack([a.error_km, b.error_km], axis=1)
    played = list(matches(error_km, a.groups, num_matches, num_rounds, rules, seed))
    won = [winner(rounds) for rounds in played]
    return {
        "num_images": len(a),
        "num_places": a.groups.count,
        "num_matches": num_matches,
        "wins": [won.count(0), won.count(1)],
        "draws": won.count(None),
        "mean_rounds": float(np.mean([len(rounds) for rounds in played])),
        "points": [_points(side) for side in (a, b)],
        "first_match": [_row(one, truth.ids[int(a.matching.truth_rows[one.image])].as_py()) for one in played[0]],
    }


def _points(side: Comparison) -> dict[str, Any]:
    """A side's mean points a round by place, and where they may lie."""
    measure, weights = Measure(values=geoguessr_points(side.error_km)), side.groups.weights
    draws = Bootstrap(groups=side.groups).replicates({"points": measure}, weights)["points"]
    bounds = [none_if_nan(bound) for bound in interval(draws, side.groups.count)]
    return {"mean": measure.estimate(weights), f"interval_{LEVEL}": bounds}


def _row(one: Round, image_id: str) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "error_km": [none_if_nan(error) for error in one.error_km],
        "points": list(one.points),
        "multiplier": one.multiplier,
        "health": list(one.health),
    }


def format_duel(found: Mapping[str, Any], names: tuple[str, str]) -> str:
    """The first match round by round, and how all of them ended."""
    head = f"{'round':>5}  {'image':<28}{'km':>20}{'points':>16}{'x':>5}{'health':>16}"
    lines = [f"first: {names[0]}", f"second: {names[1]}", "", head]
    for number, row in enumerate(found["first_match"], 1):
        errors = " / ".join("-" if error is None else f"{error:,.0f}" for error in row["error_km"])
        points, health = (" / ".join(f"{value:,.0f}" for value in row[name]) for name in ("points", "health"))
        image = row["image_id"][-26:]
        lines.append(f"{number:>5}  {image:<28}{errors:>20}{points:>16}{row['multiplier']:>5g}{health:>16}")
    wins, means = found["wins"], found["points"]
    lines += [
        "",
        f"{found['num_matches']:,} matches on {found['num_images']:,} images of {found['num_places']:,} places: "
        f"first won {wins[0]:,}, second {wins[1]:,}, {found['draws']:,} drawn; "
        f"{found['mean_rounds']:.1f} rounds in the mean",
    ]
    for name, side in zip(("first", "second"), means, strict=True):
        low, high = side[f"interval_{LEVEL}"]
        between = "" if low is None else f" ({low:,.0f} to {high:,.0f})"
        lines.append(f"{name}: {side['mean']:,.0f} points a round by place{between}")
    return "\n".join(lines)
