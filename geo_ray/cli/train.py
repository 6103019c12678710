"""``geo-ray train``."""

import argparse
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import add_address, command


def add(commands: Any) -> None:
    """Add the command to the parser."""
    recipes = "recipes: earth-tiny, earth-captions"
    parser = command(commands, "train", _train, "train a bundle by a recipe", epilog=recipes)
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="checkpoints, logs and DIR/bundle")
    add_address(parser)


def _train(arguments: argparse.Namespace) -> None:
    from geo_ray.recipes import find_recipe, run_recipe
    from geo_ray.remote.runtime import connected

    find_recipe(arguments.recipe)
    with connected(arguments.address):
        print(f"bundle: {run_recipe(arguments.recipe, arguments.output)}")
