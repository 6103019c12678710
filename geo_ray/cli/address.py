"""``geo-ray address``: a city's addresses, candidates of one's own, and what a text looks like on the map."""

import argparse
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import command


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    parser = commands.add_parser("address", help="addresses of a city: build, choose candidates, draw a text's map")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_build(actions)
    _add_candidates(actions)
    _add_map(actions)


def _add_build(actions: Any) -> None:
    build = command(actions, "build", _build, "cut a city's streets into sub-streets, and put these in words", epilog=(
        "GRAPH is a table of edges and one of nodes, GraphML or GeoPackage by OSMnx, lines of any GIS, or an\n"
        "extract of OpenStreetMap (.osm.pbf, from https://download.geofabrik.de or https://extract.bbbike.org).\n"
        "DIR gets addresses.parquet, streets.parquet, counts.json and a picture, addresses.png.\n"
        "examples:\n"
        "  geo-ray address build edges.csv nodes.csv --output pittsburgh/\n"
        "  geo-ray address build city.osm.pbf --neighbourhoods districts.geojson --output city/\n"
        "  geo-ray address build city.graphml --points photos.csv --output city/\n"
        "then: geo-ray table streets:city/ --output tiles/; geo-ray train street-tiny --table tiles/ --output mine/\n"
        "or: geo-ray table photos/ --truth photos.csv --addresses city/addresses.parquet --output table/"))  # fmt: skip
    build.add_argument("graph", nargs="+", metavar="GRAPH", help="one file, or a table of edges and one of nodes")
    build.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder")
    build.add_argument("--neighbourhoods", default="", metavar="FILE", help="polygons with names, of any GIS")
    build.add_argument("--points", default="", metavar="TABLE", help=(
        "where photos were taken, of which a sub-street must have some (default: one every --spacing-m)"))  # fmt: skip
    build.add_argument("--area", default="", metavar="FILE", help="polygons in which addresses are kept")
    build.add_argument("--only", action="append", default=[], metavar="NAME", help=(
        "a neighbourhood whose addresses are kept; may be repeated"))  # fmt: skip
    build.add_argument("--name-column", default="", metavar="COLUMN", help="names of streets (default: usual names)")
    build.add_argument("--neighbourhood-column", default="", metavar="COLUMN", help="(default: by the usual names)")
    distances = {
        "join_m": (30.0, "parts of one name this near are one street"),
        "same_m": (40.0, "crossings with one street this near are one crossing"),
        "near_m": (25.0, "a crossing nearer to another doesn't cut"),
        "spacing_m": (10.0, "a point every so many metres, where no points are given"),
    }
    for name, (value, said) in distances.items():
        build.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, metavar="M", help=(
            f"{said} (default: %(default)g)"))  # fmt: skip
    build.add_argument("--min-points", type=int, default=5, metavar="N", help=(
        "a sub-street with fewer joins the next one of its street (default: %(default)s)"))  # fmt: skip


def _add_candidates(actions: Any) -> None:
    parser = command(actions, "candidates", _candidates, "give a bundle of addresses other candidates", epilog=(
        "The new bundle has the same towers; the candidates are embedded once and lie in it.\n"
        "examples:\n"
        "  geo-ray address candidates mine/bundle street --output streets/\n"
        "  geo-ray address candidates mine/bundle my_addresses.csv --area centre.geojson --output centre/\n"
        "my_addresses.csv has a column address, and latitude and longitude, or words that name a street"))  # fmt: skip
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle of kind address")
    parser.add_argument("candidates", metavar="WHAT", help=(
        "sub-street, street, neighbourhood, corner, or a table with addresses"))  # fmt: skip
    parser.add_argument("--area", default="", metavar="FILE", help="polygons, of any GIS, in which candidates must lie")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder")


def _add_map(actions: Any) -> None:
    parser = command(actions, "map", _map, "draw how like a text each address is", epilog=(
        "Without --images a text is compared with the addresses' own words; with it, with the images of each address,\n"
        "as in the paper's figure.\n"
        "example:\n"
        "  geo-ray address map mine/bundle 'a street on the river' --images mine/features --output a.png"))  # fmt: skip
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle of kind address")
    parser.add_argument("text", metavar="TEXT", help="any text")
    parser.add_argument("--images", default="", metavar="DIR", help=(
        "images with features and addresses: the folder features/ of the training"))  # fmt: skip
    parser.add_argument("--streets", default="", metavar="FILE", help="streets.parquet, drawn in grey behind")
    parser.add_argument("--output", type=Path, default=Path("address_map.png"), metavar="FILE", help=(
        "a picture; a page beside it has the same name and .html (default: %(default)s)"))  # fmt: skip


def _build(arguments: argparse.Namespace) -> None:
    from geo_ray.atlas.street_files import StreetColumns
    from geo_ray.atlas.streets import Cutting
    from geo_ray.data.address_build import BuildOptions, build_addresses
    from geo_ray.errors import InputError

    try:
        cutting = Cutting(
            **{name: getattr(arguments, name) for name in ("join_m", "same_m", "near_m", "spacing_m", "min_points")}
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    options = BuildOptions(
        graph=tuple(arguments.graph),
        output=arguments.output,
        columns=StreetColumns(name=arguments.name_column, neighbourhood=arguments.neighbourhood_column),
        cutting=cutting,
        neighbourhoods=arguments.neighbourhoods,
        points=arguments.points,
        area=arguments.area,
        only=tuple(arguments.only),
    )
    build_addresses(options)
    print(f"addresses: {arguments.output}")


def _candidates(arguments: argparse.Namespace) -> None:
    from geo_ray.atlas.address_lists import candidates_of
    from geo_ray.atlas.addresses import read_addresses, within
    from geo_ray.atlas.street_files import area_of
    from geo_ray.models.address_bundle import with_candidates
    from geo_ray.models.bundle import ADDRESSES

    bundle = _opened(arguments.bundle)
    addresses = candidates_of(read_addresses(bundle.path(ADDRESSES)), arguments.candidates)
    if arguments.area:
        addresses = within(addresses, area_of(arguments.area))
    with_candidates(bundle, addresses, arguments.output)
    print(f"bundle: {arguments.output} ({len(addresses):,} candidates)")


def _map(arguments: argparse.Namespace) -> None:
    from geo_ray.data.address_map import draw_map

    print(draw_map(_opened(arguments.bundle), arguments.text, arguments.output, arguments.images, arguments.streets))


def _opened(ref: str) -> Any:
    from geo_ray.errors import InputError
    from geo_ray.models.bundle import open_bundle

    bundle = open_bundle(ref)
    if bundle.kind != "address":
        raise InputError(f"bundle {ref} is of kind {bundle.kind}; name one of kind address")
    return bundle
