"""``geo-ray serve``."""

import argparse
from typing import Any

from geo_ray.cli.arguments import add_address, command


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "serve", _serve, "answer over HTTP", epilog=(
        "example:\n  geo-ray serve &\n  curl -F image=@photo.jpg http://127.0.0.1:8000/v1/locate"))  # fmt: skip
    parser.add_argument("--bundle", default="earth-tiny", help="as for geotag (default: %(default)s)")
    parser.add_argument("--within", metavar="BUNDLE", help="as for geotag, with a bundle of addresses")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    add_address(parser)


def _serve(arguments: argparse.Namespace) -> None:
    from geo_ray.models.bundle import open_bundle
    from geo_ray.remote.runtime import connected
    from geo_ray.serve.app import ServeConfig, serve_forever

    open_bundle(arguments.bundle)
    with connected(arguments.address):
        config = ServeConfig(within=arguments.within)
        serve_forever(arguments.bundle, host=arguments.host, port=arguments.port, config=config)
