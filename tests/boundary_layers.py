"""Layers of areas in the formats of publishers, to read boundaries from."""

import json

import numpy as np
import pytest
import shapely

pyogrio = pytest.importorskip("pyogrio")


def write(path, rows, *, layer=None, crs="EPSG:4326", kind="Unknown"):
    """A layer of (attributes, geometry) rows, added to the file if it is there."""
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array([geometry for _, geometry in rows], dtype=object)),
        [np.array([attributes[name] for attributes, _ in rows], dtype=object) for name in rows[0][0]],
        list(rows[0][0]),
        layer=layer,
        geometry_type=kind,
        crs=crs,
        append=path.exists(),
    )
    return path


def geojson(path, rows):
    """What publishers' GeoJSON looks like: no system of coordinates, as it is always WGS 84."""
    features = [
        {
            "type": "Feature",
            "properties": attributes,
            "geometry": None if geometry is None else json.loads(shapely.to_geojson(geometry)),
        }
        for attributes, geometry in rows
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def names(boundaries):
    """Country, admin 1 and admin 2 of each area."""
    return list(zip(boundaries.countries, boundaries.admin_1, boundaries.admin_2, strict=True))


def shape(name, group, level):
    """The attributes of an area of geoBoundaries."""
    return {"shapeName": name, "shapeISO": "", "shapeID": f"{group}-{name}", "shapeGroup": group, "shapeType": level}
