"""What several commands share."""

import argparse
from typing import Any


def command(commands: Any, name: str, run: Any, help_text: str, epilog: str) -> argparse.ArgumentParser:
    """A command's parser; ``run`` is called with what was given."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def at_least_one(text: str) -> int:
    """The number that a text says, for ``argparse``: a whole one from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def range_of(text: str) -> tuple[int, int | None]:
    """The numbers that ``8`` or ``2-16`` say, for ``argparse``: the least, and the most where that is another."""
    least, dash, most = text.partition("-")
    if not dash:
        return at_least_one(least), None
    if at_least_one(most) < at_least_one(least):
        raise argparse.ArgumentTypeError(f"{text} ends before it begins")
    return int(least), int(most)


def share_of_gpu(text: str) -> float:
    """The share that a text says, for ``argparse``: above 0, at most a whole GPU."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share of a GPU, above 0 and at most 1")
    return share


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which Ray to run on."""
    where = "Ray to run on: local, auto or HOST:PORT (default: auto, the cluster of RAY_ADDRESS, or else this machine)"
    parser.add_argument("--address", default="auto", help=where)
