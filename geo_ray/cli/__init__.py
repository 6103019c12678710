"""``geo-ray``: arguments only; what the commands do is in the modules they call."""

import argparse
import io
import os
import sys

from geo_ray.cli import address, bundle, cells, duel, evaluate, export, geotag, index, leaks, serve, table, train
from geo_ray.errors import GeoRayError

COMMANDS = (
    geotag.add_geotag, geotag.add_embed, evaluate.add_evaluate, evaluate.add_report, duel.add, leaks.add, export.add,
    bundle.add, cells.add, address.add, index.add, table.add, train.add, serve.add,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a job whose rows failed, 2 for what could not be started."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the terminal doesn't know is no reason to end
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except GeoRayError as error:
        print(f"geo-ray {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"geo-ray {arguments.command}: interrupted", file=sys.stderr)
        return 130  # as shells have it
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="geo-ray", description="Where in the world was this photo taken?")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser
