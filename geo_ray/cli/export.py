"""``geo-ray export``."""

import argparse
from typing import Any

from geo_ray.cli.arguments import command


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "export", _export, "write answers as the files that other programs read", epilog=(
        "formats:\n"
        "  geojson   one file predictions.geojson; images without an answer have no geometry\n"
        "  csv       one file predictions.csv\n"
        "  xmp       a sidecar IMAGE_ID.xmp for each answer, as digiKam, darktable and immich look for\n"
        "  copies    a copy of each photo with the position in its EXIF (JPEG), or with a sidecar (other formats)\n"
        "Originals are never changed, and a folder that holds other files is never written to."))  # fmt: skip
    parser.add_argument("folder", metavar="DIR", help="output folder of geotag, when it is finished")
    parser.add_argument("--to", required=True, choices=["geojson", "csv", "xmp", "copies"], help="see below")
    parser.add_argument("--output", metavar="DIR", help=(
        "where to; for geojson and csv a URI too (default: the folder FORMAT in DIR)"))  # fmt: skip
    parser.add_argument("--max-radius-km", type=float, metavar="KM", help=(
        "xmp, copies: leave out answers whose radius_km_90 is larger, or unknown"))  # fmt: skip
    parser.add_argument("--leave-out-uncertain", action="store_true", help=(
        "geojson, csv: leave out answers with the problem uncertain, as xmp and copies always do"))  # fmt: skip
    parser.add_argument("--overwrite-gps", action="store_true", help=(
        "copies: replace positions that photos carry, if all of it can be (default: they keep them)"))  # fmt: skip


def _export(arguments: argparse.Namespace) -> None:
    from geo_ray.data.exports.export import ExportOptions, export

    options = ExportOptions(
        run=arguments.folder,
        to=arguments.to,
        output=arguments.output,
        max_radius_km=arguments.max_radius_km,
        overwrite_gps=arguments.overwrite_gps,
        leave_out_uncertain=arguments.leave_out_uncertain,
    )
    print(export(options))
