"""Values of rasters of the Earth at points: GeoTIFF in any projection, and NetCDF of longitude and latitude."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from geo_ray.errors import InputError, MissingDataError

TIFF = (".tif", ".tiff")
NETCDF = (".nc", ".cdf")


def raster_values(path: str | Path, latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n"]:
    """The pixel's value at each point (degrees); NaN off the raster and where it has none.

    A raster that goes once around the Earth goes on across the antimeridian. ``InputError`` names a file that can't be
    read, ``MissingDataError`` the package that reads it.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in TIFF + NETCDF:
        raise InputError(f"{path} is no raster; give a GeoTIFF ({', '.join(TIFF)}) or NetCDF ({', '.join(NETCDF)})")
    try:
        return _tiff_values(str(path), latlon) if suffix in TIFF else _netcdf_values(str(path), latlon)
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path} can't be read as a raster ({' '.join(str(error).split())}); get it again") from error


def monthly_values(paths: Sequence[str | Path], latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 12"]:
    """The values of twelve rasters, one a month, as WorldClim has them."""
    if len(paths) != 12:
        raise InputError(f"{len(paths)} rasters of months were found, such as {list(paths)[:1]}; there must be 12")
    return np.stack([raster_values(path, latlon) for path in sorted(paths)], axis=1)


def _tiff_values(path: str, latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n"]:
    try:
        import rasterio
        import rasterio.errors
        from rasterio.warp import transform
    except ImportError as error:
        raise MissingDataError("rasterio is not installed: pip install 'geo-ray[rasters]'") from error
    try:
        with rasterio.open(path) as raster:
            x, y = latlon[:, 1], latlon[:, 0]
            if raster.crs is not None and not raster.crs.is_geographic:
                x, y = (np.asarray(v) for v in transform("EPSG:4326", raster.crs, x, y))
            back = ~raster.transform
            columns, rows = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
            around = 360 / abs(raster.transform.a) if raster.crs is None or raster.crs.is_geographic else np.inf
            return _picked(_tiff_pixels(path), raster.nodata, rows, columns, around)
    except rasterio.errors.RasterioError as error:
        raise OSError(error) from error


@lru_cache(maxsize=16)
def _tiff_pixels(path: str) -> np.ndarray:
    import rasterio

    with rasterio.open(path) as raster:
        return np.asarray(raster.read(1))


def _netcdf_values(path: str, latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n"]:
    pixels, longitudes, latitudes, missing = _netcdf_pixels(path)
    step_x, step_y = longitudes[1] - longitudes[0], latitudes[1] - latitudes[0]
    columns = (latlon[:, 1] - longitudes[0]) / step_x + 0.5
    rows = (latlon[:, 0] - latitudes[0]) / step_y + 0.5
    return _picked(pixels, missing, rows, columns, 360 / abs(step_x))


@lru_cache(maxsize=4)
def _netcdf_pixels(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Pixels, the middles of columns and rows, and the value that means none."""
    from scipy.io import netcdf_file

    with netcdf_file(path, "r", mmap=False) as file:
        grids = [(name, v) for name, v in file.variables.items() if len(v.shape) == 2]
        if len(grids) != 1:
            raise ValueError(f"it has {len(grids)} grids of two axes, there must be one")
        _, grid = grids[0]
        axes = [np.asarray(file.variables[name].data, np.float64) for name in grid.dimensions]
        missing = getattr(grid, "_FillValue", getattr(grid, "missing_value", None))
        return np.array(grid.data, np.float64), axes[1], axes[0], missing


def _picked(
    pixels: np.ndarray, missing: Any, rows: np.ndarray, columns: np.ndarray, around: float
) -> Float64[np.ndarray, "n"]:
    """The pixels at these rows and columns, of which there are ``around`` once around the Earth."""
    height, width = pixels.shape
    row, column = np.floor(rows), np.floor(columns)
    if np.isfinite(around):
        column = np.mod(column, round(around))
    row = np.where(row == height, height - 1, row)  # the pole itself, or half a pixel beyond the last middle
    row = np.where(row == -1, np.where(rows > -1e-6, 0, row), row)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & np.isfinite(rows) & np.isfinite(columns)
    found = np.full(len(rows), np.nan)
    found[inside] = pixels[row[inside].astype(np.int64), column[inside].astype(np.int64)]
    if missing is not None:
        found[found == float(np.ravel(missing)[0])] = np.nan
    return found
