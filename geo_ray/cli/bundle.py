"""``geo-ray bundle``: list, show, import, calibrate."""

import argparse
import json
from pathlib import Path
from typing import Any

from geo_ray.cli.arguments import add_address, command
from geo_ray.errors import InputError


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = command(commands, "bundle", _bundle, "look at bundles, make and calibrate them", epilog="")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    command(actions, "list", _bundle, "list the bundles that ship", epilog="")
    show = command(actions, "show", _bundle, "say what a bundle is, as JSON", epilog="")
    show.add_argument("bundle", nargs="?", help="name, folder or s3:// prefix")
    _add_bundle_import(actions)
    _add_bundle_assemble(actions)
    fit = command(actions, "calibrate", _bundle_calibrate, "fit what answers state to images of known places",
                   epilog=(
        "The images: like those to be answered, and none that the model was trained on. Places count, not photos:\n"
        "give images of 200 of them or more."))  # fmt: skip
    fit.add_argument("bundle", metavar="BUNDLE", help="name, folder or s3:// prefix")
    fit.add_argument("inputs", nargs="+", metavar="INPUT", help="as for geotag")
    fit.add_argument("--views-by", metavar="COLUMN", help="as for geotag")
    fit.add_argument("--truth", required=True, metavar="TABLE", help="true places, as for evaluate")
    fit.add_argument("--output", required=True, type=Path, metavar="DIR", help="where the calibrated bundle goes")
    fit.add_argument("--index", metavar="DIR", help=(
        "search it as geotag --index does; radii and probabilities are then stated with it alone"))  # fmt: skip
    fit.add_argument("--group-by", metavar="COLUMN", help=(
        "column of TABLE with the place or the user of an image (default: blocks of 0.25 degrees)"))  # fmt: skip
    add_address(fit)


def _add_bundle_import(actions: Any) -> None:
    parser = command(actions, "import", _bundle_import, "make a bundle of weights that others published", epilog=(
        "examples:\n"
        "  geo-ray bundle import streetclip --output streetclip/                     from the Hugging Face hub\n"
        "  geo-ray bundle import streetclip s3://models/StreetCLIP --output streetclip/\n"
        "  geo-ray bundle import openclip ViT-B-32:laion2b_s34b_b79k --output clip/\n"
        "  geo-ray bundle import geoclip openai/clip-vit-large-patch14 --output geoclip/\n"
        "Weights are safetensors; pickles are refused. HF_HUB_OFFLINE=1 keeps to the hub's cache."))  # fmt: skip
    parser.add_argument("kind", choices=["streetclip", "openclip", "geoclip"])
    parser.add_argument("source", nargs="?", metavar="SOURCE", help=(
        "folder, s3:// prefix, owner/name on the Hugging Face hub, or MODEL:TAG of open_clip "
        "(default: where the authors put it)"))  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder for the bundle")
    parser.add_argument("--revision", help="commit, tag or branch on the hub (default: main); the bundle records it")
    parser.add_argument("--sha256", metavar="HEX", help="refuse weights with another digest")
    parser.add_argument("--licence", help="of the weights, where SOURCE is not the authors'")
    parser.add_argument("--method", choices=["greedy", "beam", "tree"], default="greedy", help=(
        "best country, then its best city; or the best cities of some countries; or down a tree of country, region "
        "and city for as long as it gets more alike (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--beam", type=int, default=5, metavar="N", help="countries of --method beam (default: 5)")
    parser.add_argument("--countries", choices=["iso", "paper"], default="iso", help=(
        "all with an ISO code, or those of StreetCLIP's paper (default: %(default)s)"))  # fmt: skip
    parser.add_argument("--cities", type=int, metavar="N", help="of each country, or of each region of a tree")
    parser.add_argument("--labels", type=Path, metavar="FILE", help=(
        "your own labels as CSV: name, parent, latitude, longitude, and text or template"))  # fmt: skip


def _add_bundle_assemble(actions: Any) -> None:
    parser = command(actions, "assemble", _bundle_assemble, "make a bundle of cells from parts of your own", epilog=(
        "ENCODER is any bundle with the tower, as bundle import makes it. Its features make the index\n"
        "(geo-ray embed, geo-ray index build --cells) and train the head.\n"
        "example:\n"
        "  geo-ray bundle assemble clip/ --cells cells.parquet --head head.safetensors --index index/ --output mine/\n"
        "  geo-ray bundle calibrate mine/ known/ --truth known.csv --output mine-calibrated/"))  # fmt: skip
    parser.add_argument("encoder", metavar="ENCODER", help="name, folder or s3:// prefix of a bundle")
    parser.add_argument("--cells", required=True, type=Path, metavar="FILE", help="as geo-ray cells build writes")
    parser.add_argument("--head", required=True, type=Path, metavar="FILE", help=(
        "safetensors with weight (cells, features) and bias (cells)"))  # fmt: skip
    parser.add_argument("--index", required=True, type=Path, metavar="DIR", help=(
        "as geo-ray index build writes without --shards"))  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder for the bundle")
    parser.add_argument("--preset", choices=["pigeon", "pigeotto"], default="pigeon", help=(
        "the refinement to start from (default: %(default)s); calibrate fits it"))  # fmt: skip
    parser.add_argument("--description", default="", help="what the bundle is for (default: the encoder's)")
    parser.add_argument("--licence", default="", help="of all parts together (default: the encoder's)")
    parser.add_argument("--attribution", default="", help="whose data it rests on (default: the encoder's)")


def _bundle(arguments: argparse.Namespace) -> None:
    from geo_ray.models.bundle import open_bundle, shipped_bundles

    if arguments.action == "list":
        for name in shipped_bundles():
            print(f"{name}: {open_bundle(name).description}")
    elif arguments.bundle is None:
        raise InputError("which bundle? name one of `geo-ray bundle list`, a folder or an s3:// prefix")
    else:
        print(json.dumps(open_bundle(arguments.bundle).summary(), indent=1))


def _bundle_import(arguments: argparse.Namespace) -> None:
    from geo_ray.models.bundle import open_bundle
    from geo_ray.models.published import Import, LabelChoice, import_bundle

    labels = LabelChoice(countries=arguments.countries, num_cities=arguments.cities, file=arguments.labels)
    what = Import(
        kind=arguments.kind,
        source=arguments.source,
        revision=arguments.revision,
        sha256=arguments.sha256,
        licence=arguments.licence,
        labels=labels,
        method=arguments.method,
        beam=arguments.beam,
    )
    import_bundle(what, arguments.output)
    bundle = open_bundle(str(arguments.output))
    print(f"bundle: {arguments.output} ({bundle.fingerprint}); licence: {bundle.licence}")
    print(f"try: geo-ray geotag photos/ --bundle {arguments.output} --output answers/")


def _bundle_assemble(arguments: argparse.Namespace) -> None:
    from geo_ray.index.refine import PRESETS
    from geo_ray.models.bundle import open_bundle
    from geo_ray.models.bundle_writing import Words, write_cells_bundle

    encoder = open_bundle(arguments.encoder)
    words = Words(
        description=arguments.description or encoder.description,
        licence=arguments.licence or encoder.licence,
        attribution=arguments.attribution or encoder.attribution,
        provenance={"encoder_of": encoder.fingerprint, "encoder": encoder.provenance},
    )
    write_cells_bundle(
        arguments.output,
        encoder=encoder,
        cells=arguments.cells,
        head=arguments.head,
        index=arguments.index,
        refinement=PRESETS[arguments.preset],
        words=words,
    )
    print(f"bundle: {arguments.output} ({open_bundle(str(arguments.output)).fingerprint}); it states no radii until")
    print(
        f"geo-ray bundle calibrate {arguments.output} known/ --truth known.csv --output {arguments.output}-calibrated"
    )


def _bundle_calibrate(arguments: argparse.Namespace) -> None:
    from geo_ray.data.calibrate import calibrate
    from geo_ray.remote.place import plan
    from geo_ray.remote.runtime import connected

    with connected(arguments.address) as resources:
        place = plan(resources["CPU"], resources.get("GPU", 0))
        inputs = tuple(arguments.inputs)
        by = arguments.views_by, arguments.group_by, arguments.index
        print(calibrate(arguments.bundle, inputs, arguments.truth, arguments.output, place, *by))
    print(f"bundle: {arguments.output}")
