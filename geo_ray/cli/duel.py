"""``geo-ray duel``."""

import argparse
import json
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import at_least_one, command


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "duel", _duel, "play GeoGuessr duels between two sets of guesses", epilog=(
        "A guess scores 5000 exp(-km / 1492.7) points; the better one's lead is taken from the other's health, times\n"
        "a multiplier that grows in later rounds. Guesses of people: a CSV with image id, latitude and longitude.\n"
        "examples:\n"
        "  geo-ray duel new/ old/ --truth places.csv\n"
        "  geo-ray duel answers/ people.csv --truth places.csv --rounds 5"))  # fmt: skip
    parser.add_argument("first", metavar="FIRST", help="output folder of geotag, or a table of guesses")
    parser.add_argument("second", metavar="SECOND", help="another, on the same images")
    parser.add_argument("--truth", required=True, metavar="TABLE", help="the images' true places")
    parser.add_argument("--matches", type=at_least_one, default=1000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=at_least_one, default=100, metavar="N", help=(
        "at most, of a match (default: until one side has no health left)"))  # fmt: skip
    parser.add_argument("--health", type=at_least_one, default=6000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--plain-rounds", type=int, default=4, metavar="N", help=(
        "rounds before the multiplier grows (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--step", type=float, default=0.5, metavar="X", help=(
        "by how much it grows each round then (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the draws of images (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")


def _duel(arguments: argparse.Namespace) -> None:
    from geo_ray.evaluation.duel import Rules, duel, format_duel
    from geo_ray.evaluation.tables import read_truth

    rules = Rules(health=arguments.health, plain_rounds=arguments.plain_rounds, step=arguments.step)
    sides = arguments.first, arguments.second
    found = duel(*sides, read_truth(arguments.truth), rules, arguments.matches, arguments.rounds, arguments.seed)
    print(format_duel(found, sides))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
