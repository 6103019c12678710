"""Layers of areas in the formats of publishers, to read boundaries from."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


def geoparquet(path, rows, *, name="geometry", encoding="WKB", values=None, metadata=True, group=None, **column):
    """What geopandas and others write, so many rows a group; ``column`` is more of the geometry's metadata: its crs."""
    table = pa.table({key: [attributes[key] for attributes, _ in rows] for key in rows[0][0]})
    wkb = [None if geometry is None else shapely.to_wkb(geometry) for _, geometry in rows]
    table = table.append_column(name, pa.array(wkb, pa.binary()) if values is None else values)
    described = {"encoding": encoding, "geometry_types": [], **column}
    geo = {"version": "1.1.0", "primary_column": name, "columns": {name: described}}
    table = table.replace_schema_metadata({"geo": json.dumps(geo)} if metadata else None)
    pq.write_table(table, path, row_group_size=group)
    return path
