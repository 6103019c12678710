"""The sphere: distances, means, bearings and a local projection, in numpy."""

import numpy as np
from jaxtyping import Float, Float64

# Mean radius R1 of GRS 80: Moritz (2000), J. Geodesy 74. PIGEON uses 6378.137 and OSV-5M 6371, 0.11 % apart.
EARTH_RADIUS_KM = 6371.0088


def great_circle_km(
    a: Float64[np.ndarray, "*shape 2"], b: Float64[np.ndarray, "*shape 2"]
) -> Float64[np.ndarray, "*shape"]:
    """Distance in km between paired points (degrees), by the haversine form.

    In float64: float32 degrees are 1.7 m apart near the antimeridian.
    """
    lat_a, lat_b = np.radians(a[..., 0]), np.radians(b[..., 0])
    d_lat = lat_b - lat_a
    d_lon = np.radians(b[..., 1] - a[..., 1])
    h = np.sin(d_lat / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin(d_lon / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0))))


def pairwise_km(a: Float64[np.ndarray, "n 2"], b: Float64[np.ndarray, "m 2"]) -> Float64[np.ndarray, "n m"]:
    """Distance in km of every point of ``a`` to every point of ``b`` (degrees)."""
    return great_circle_km(*np.broadcast_arrays(a[:, None, :], b[None, :, :]))


def unit_vectors(latlon: Float64[np.ndarray, "*shape 2"]) -> Float64[np.ndarray, "*shape 3"]:
    """Points on the unit sphere, x towards (0, 0) and z towards the north pole."""
    lat, lon = np.radians(latlon[..., 0]), np.radians(latlon[..., 1])
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def from_unit_vectors(xyz: Float64[np.ndarray, "*shape 3"]) -> Float64[np.ndarray, "*shape 2"]:
    """Latitude and longitude (in [-180, 180]) in degrees of directions, which need not have length one."""
    lat = np.arctan2(xyz[..., 2], np.hypot(xyz[..., 0], xyz[..., 1]))
    lon = np.arctan2(xyz[..., 1], xyz[..., 0])
    return np.asarray(np.degrees(np.stack([lat, lon], axis=-1)))


def spherical_mean(
    latlon: Float64[np.ndarray, "*shape n 2"], weights: Float[np.ndarray, "*shape n"] | None = None
) -> Float64[np.ndarray, "*shape 2"]:
    """Mean direction of points (degrees): the normalised mean of their unit vectors.

    Arithmetic means of degrees break at the antimeridian and at the poles. No points at all give (0, 0). Points that
    cancel have no mean: the answer is then finite, but rounding decides which point it is.
    """
    xyz = unit_vectors(latlon)
    w = np.ones(latlon.shape[:-1]) if weights is None else np.asarray(weights, np.float64)
    return from_unit_vectors((xyz * w[..., None]).sum(axis=-2))


def destination(
    origin: Float64[np.ndarray, "*shape 2"], east_km: Float[np.ndarray, "*shape"], north_km: Float[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape 2"]:
    """The point (degrees) that lies at a local offset: the inverse azimuthal equidistant projection about ``origin``.

    Exact at any latitude, over the poles and across the antimeridian; longitudes are in [-180, 180).
    Snyder (1987), Map Projections, eqs. 20-14 and 20-15.
    """
    lat, lon = np.radians(origin[..., 0]), np.radians(origin[..., 1])
    east, north = np.asarray(east_km, np.float64), np.asarray(north_km, np.float64)
    distance = np.hypot(east, north)
    c = distance / EARTH_RADIUS_KM
    safe = np.where(distance > 0, distance, 1.0)
    sin_azimuth, cos_azimuth = east / safe, np.where(distance > 0, north / safe, 1.0)
    sin_lat = np.clip(np.cos(c) * np.sin(lat) + np.sin(c) * np.cos(lat) * cos_azimuth, -1.0, 1.0)
    new_lon = lon + np.arctan2(sin_azimuth * np.sin(c), np.cos(c) * np.cos(lat) - np.sin(lat) * np.sin(c) * cos_azimuth)
    return np.stack([np.degrees(np.arcsin(sin_lat)), wrap_longitude(np.asarray(np.degrees(new_lon)))], axis=-1)


def offsets_km(origin: Float64[np.ndarray, "2"], latlon: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    """East and north of ``origin`` in km of points (degrees): the azimuthal equidistant projection about it.

    The inverse of ``destination``; distances from ``origin`` are true. Snyder (1987), Map Projections, eqs. 22-4, 22-5
    and 25-2.
    """
    lat, d_lon = np.radians(latlon[:, 0]), np.radians(latlon[:, 1] - origin[1])
    lat_0 = np.radians(origin[0])
    east = np.cos(lat) * np.sin(d_lon)
    north = np.cos(lat_0) * np.sin(lat) - np.sin(lat_0) * np.cos(lat) * np.cos(d_lon)
    sine = np.hypot(east, north)
    distance = great_circle_km(np.broadcast_to(origin, latlon.shape), latlon)
    scale = np.divide(distance, sine, out=np.zeros_like(sine), where=sine > 0)
    return np.stack([east * scale, north * scale], axis=1)


def wrap_longitude(longitude: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The same meridian in [-180, 180)."""
    # Twice: the first remainder is 360 itself where the sum is just below 0.
    return np.asarray((longitude + 180.0) % 360.0 % 360.0 - 180.0)


def check_latlon(latlon: Float[np.ndarray, "n 2"], name: str = "latlon") -> None:
    """Raise ``ValueError`` naming the first rows that aren't degrees in range, and guess at swapped columns."""
    bad = ~np.isfinite(latlon).all(axis=1) | (np.abs(latlon[:, 0]) > 90) | (np.abs(latlon[:, 1]) > 180)
    if not bad.any():
        return
    swapped = bool((np.abs(latlon) <= [180, 90]).all())  # NaN is not
    hint = "; latitude and longitude look swapped" if swapped else ""
    examples = ", ".join(f"row {i}: {latlon[i].tolist()}" for i in np.flatnonzero(bad)[:3])
    raise ValueError(f"{name}: {bad.sum()} of {len(bad)} points are not finite degrees in range ({examples}){hint}")
