"""A file for each answered image: an XMP sidecar, or a copy of the photo that carries the position."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from geo_ray.data.exports.folder import ExportFolder
from geo_ray.data.exports.gps_directory import NotWritableError
from geo_ray.data.exports.jpeg import is_jpeg, jpeg_with_position
from geo_ray.data.exports.position import Position, sidecar
from geo_ray.data.exports.run_files import NEEDED, RunFiles
from geo_ray.data.fetch.policy import DEFAULT_POLICY
from geo_ray.data.sources import Input
from geo_ray.data.sources.reading import Reader
from geo_ray.errors import InputError
from geo_ray.geo.calibration import UNCERTAIN
from geo_ray.models.exif import looks_located

XMP_SUFFIX = ".xmp"
NO_ANSWER, TOO_WIDE = "without an answer, left out", "with a larger or unknown radius, left out"
NOT_CERTAIN = "uncertain, left out"
UNREADABLE = "whose original can't be read where its uri says"
SIDECARS, COPIES = "sidecars", "copies with the position in their EXIF"
BESIDE = "copies with a sidecar (not JPEG, or EXIF that can't be extended)"
KEPT = "copies that keep the position they had"
STUCK = "copies that keep the position they had: it can't be replaced (not JPEG, or EXIF or XMP that can't be changed)"


def write_sidecars(run: RunFiles, folder: ExportFolder, max_radius_km: float | None = None) -> Counter[str]:
    """Write a sidecar for every answer; counts of what was done."""
    counts: Counter[str] = Counter()
    for rows in _answers(run, max_radius_km, counts):
        for row in rows:
            folder.write(row["image_id"], sidecar(_position(row)), XMP_SUFFIX)
            counts[SIDECARS] += 1
    return counts


def write_copies(
    run: RunFiles, folder: ExportFolder, max_radius_km: float | None = None, overwrite_gps: bool = False
) -> Counter[str]:
    """Write a copy of every answered photo; counts of what was done. Originals are read, never written.

    A photo with anything that looks like a position keeps it unless ``overwrite_gps``, and gets no second one beside
    it even then. ``InputError`` where no original can be read.
    """
    counts: Counter[str] = Counter()
    with Reader(DEFAULT_POLICY) as reader:
        for rows in _answers(run, max_radius_km, counts):
            inputs = (Input(image_id=row["image_id"], uri=row["uri"] or "") for row in rows)
            for row, read in zip(rows, reader.rows(inputs), strict=True):
                content = read.contents[0]
                counts[UNREADABLE if content is None else _copy(row, content, folder, overwrite_gps)] += 1
    if counts[UNREADABLE] and not any(counts[done] for done in (COPIES, BESIDE, KEPT, STUCK)):
        raise InputError(f"none of {counts[UNREADABLE]:,} originals can be read where {run.uri!r} says they lie "
                         "(images in containers can't be copied); put them back, or export sidecars")  # fmt: skip
    return counts


def _copy(row: dict[str, Any], content: bytes, folder: ExportFolder, overwrite_gps: bool) -> str:
    """Write a photo's copy; what was done."""
    image_id, position = row["image_id"], _position(row)
    located = looks_located(content)
    tagged, done = content, STUCK if located else BESIDE
    if located and not overwrite_gps:
        done = KEPT
    elif is_jpeg(content):
        with contextlib.suppress(NotWritableError):
            tagged, done = jpeg_with_position(content, position), COPIES
    folder.write(image_id, tagged, original=row["uri"])
    if done == BESIDE:
        folder.write(image_id, sidecar(position), XMP_SUFFIX)
    return done


def _answers(run: RunFiles, max_radius_km: float | None, counts: Counter[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows that are to be exported, a batch at a time; others are counted."""
    for batch in run.batches(NEEDED):
        wanted = []
        for row in batch.to_pylist():
            if why := _left_out(row, max_radius_km):
                counts[why] += 1
            else:
                wanted.append(row)
        yield wanted


def _left_out(row: dict[str, Any], max_radius_km: float | None) -> str:
    if row["problem"] == UNCERTAIN:
        return NOT_CERTAIN
    if row["problem"] or row["latitude"] is None or row["longitude"] is None:
        return NO_ANSWER
    radius = row["radius_km_90"]
    return TOO_WIDE if max_radius_km is not None and (radius is None or radius > max_radius_km) else ""


def _position(row: dict[str, Any]) -> Position:
    radius = row["radius_km_90"]
    known = radius is not None and math.isfinite(radius)
    return Position(latitude=row["latitude"], longitude=row["longitude"], radius_km=radius if known else None)
