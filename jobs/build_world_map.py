"""Build geo_ray/atlas/world.json, the base layer of the reports' maps, from Natural Earth 1:110m.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python jobs/build_world_map.py package/countries-110m.json geo_ray/atlas/world.json

The package holds TopoJSON: lines ("arcs") shared by neighbouring countries, in integers and as differences. Land comes
out as rings cut at longitude 180 and closed along the pole, so that any program can fill them in the plane; borders are
the arcs that two countries share.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from jaxtyping import Float64
from shapely.affinity import translate

DECIMALS = 2  # about a kilometre, a tenth of what the 1:110m layer resolves
SOURCE = "Natural Earth 1:110m, version 4.1.0, by way of the npm package world-atlas 2.0.2"
LICENCE = "Public domain (Natural Earth)"

Line = Float64[np.ndarray, "_ 2"]  # longitude, latitude: the order of TopoJSON and shapely


def decode_arcs(topology: dict[str, Any]) -> list[Line]:
    """The arcs in degrees: sums of integer differences, scaled and shifted (TopoJSON 1.0, section 2.1.3)."""
    transform = topology["transform"]
    return [np.cumsum(arc, axis=0) * transform["scale"] + transform["translate"] for arc in topology["arcs"]]


def polygons_of(geometry: dict[str, Any]) -> list[list[list[int]]]:
    """A geometry's polygons, each a list of rings of arc numbers; ``~i`` is arc ``i`` backwards."""
    polygons: list[list[list[int]]] = {"Polygon": [geometry["arcs"]], "MultiPolygon": geometry["arcs"]}[
        geometry["type"]
    ]
    return polygons


def ring_of(numbers: list[int], arcs: list[Line]) -> Line:
    """A ring's points, each arc without the first point, which the arc before it ended with."""
    parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in numbers]
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def unwrapped(ring: Line) -> Line:
    """The ring with longitudes that never jump by more than 180 degrees; a ring about a pole is closed along it."""
    lon = np.unwrap(ring[:, 0], period=360.0)
    flat = np.stack([lon, ring[:, 1]], axis=1)
    if abs(lon[-1] - lon[0]) < 180:
        return flat
    pole = np.copysign(90.0, ring[:, 1].mean())
    return np.concatenate([flat, [[lon[-1], pole], [lon[0], pole]], flat[:1]])


def planar(rings: list[Line]) -> shapely.Geometry:
    """A polygon of the sphere cut at longitude 180, as a geometry of the plane.

    Holes are shifted by the turns that bring them into the outer ring's range.
    """
    outer, *holes = [shapely.Polygon(unwrapped(ring)).buffer(0) for ring in rings]
    for hole in holes:
        outer = outer.difference(shapely.union_all([translate(hole, turn) for turn in (-360, 0, 360)]))
    window = shapely.box(-180, -90, 180, 90)
    return shapely.union_all([translate(outer, turn).intersection(window) for turn in (-360, 0, 360)])


def rounded(line: Line) -> list[float]:
    """``lon, lat, lon, lat ...`` without points that rounding made equal to the one before."""
    points = np.round(line, DECIMALS)
    keep = np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))
    return [int(value) if value == int(value) else value for value in points[keep].ravel().tolist()]


def land_rings(land: dict[str, Any], arcs: list[Line]) -> Iterator[list[float]]:
    """Outer rings and holes alike: the even-odd rule fills them."""
    for polygon in polygons_of(land):
        for part in shapely.get_parts(planar([ring_of(numbers, arcs) for numbers in polygon])):
            for ring in (part.exterior, *part.interiors):
                if part.geom_type == "Polygon" and len(line := rounded(np.array(ring.coords))) >= 8:
                    yield line


def border_lines(countries: list[dict[str, Any]], arcs: list[Line]) -> Iterator[list[float]]:
    """The arcs that two countries share, cut where they cross longitude 180."""
    uses = Counter(
        number if number >= 0 else ~number
        for country in countries
        for polygon in polygons_of(country)
        for ring in polygon
        for number in ring
    )
    for number, count in sorted(uses.items()):
        if count > 1:
            cuts = np.flatnonzero(np.abs(np.diff(arcs[number][:, 0])) > 180) + 1
            yield from (line for part in np.split(arcs[number], cuts) if len(line := rounded(part)) >= 4)


def main() -> None:
    """Write the map and say how large it is."""
    parser = argparse.ArgumentParser(description="Build the base layer of the reports' maps.")
    parser.add_argument("topology", type=Path, help="countries-110m.json of world-atlas 2.0.2")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    topology = json.loads(options.topology.read_text())
    arcs = decode_arcs(topology)
    objects = {name: layer["geometries"] for name, layer in topology["objects"].items()}
    content = {
        "source": SOURCE,
        "licence": LICENCE,
        "layout": "land: rings to fill by the even-odd rule; borders: open lines; lon, lat, lon, lat ... in degrees",
        "land": [ring for land in objects["land"] for ring in land_rings(land, arcs)],
        "borders": list(border_lines(objects["countries"], arcs)),
    }
    options.output.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{options.output}: {len(content['land'])} rings, {len(content['borders'])} borders, "
          f"{options.output.stat().st_size / 1000:.0f} kB")  # fmt: skip


if __name__ == "__main__":
    main()
