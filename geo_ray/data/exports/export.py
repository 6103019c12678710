"""Exports of a finished run: its predictions in the files that other programs read."""

from collections import Counter
from dataclasses import dataclass, replace

from geo_ray.data.exports.folder import ExportFolder, whole_file
from geo_ray.data.exports.photos import write_copies, write_sidecars
from geo_ray.data.exports.run_files import RunFiles, open_run
from geo_ray.data.exports.tables import write_csv, write_geojson
from geo_ray.errors import InputError
from geo_ray.geo.calibration import UNCERTAIN

TABLES = {"geojson": ("predictions.geojson", write_geojson), "csv": ("predictions.csv", write_csv)}
FORMATS = (*TABLES, "xmp", "copies")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export (the output folder of ``geo-ray geotag``), as what, and where to (default: a folder in it)."""

    run: str
    to: str
    output: str | None = None
    max_radius_km: float | None = None  # leave out answers whose radius_km_90 is larger or unknown
    overwrite_gps: bool = False  # also in photos that carry a position
    leave_out_uncertain: bool = False  # of tables; photos are never given an uncertain position

    def __post_init__(self) -> None:
        if self.to not in FORMATS:
            raise InputError(f"exporting to {self.to!r} is not known; have {', '.join(FORMATS)}")
        if self.max_radius_km is not None and self.to in TABLES:
            raise InputError(f"a largest radius is for xmp and copies; {self.to} holds all rows, with their radius")
        if self.max_radius_km is not None and not self.max_radius_km > 0:
            raise InputError(f"max_radius_km={self.max_radius_km} must be positive")
        if self.leave_out_uncertain and self.to not in TABLES:
            raise InputError(f"leaving out uncertain answers is for {' and '.join(TABLES)}; {self.to} always does")
        if self.overwrite_gps and self.to != "copies":
            raise InputError(f"overwriting positions is for copies; {self.to} changes no photo")

    @property
    def folder(self) -> str:
        """Where the export goes."""
        return self.output or f"{self.run.rstrip('/')}/{self.to}"


def export(options: ExportOptions) -> str:
    """Export a run; what was done, in words. Needs no Ray, and no more memory for more rows.

    Raises ``InputError`` where the run can't be read, ``OutputError`` where the export can't be written.
    """
    run = open_run(options.run)
    if options.leave_out_uncertain:
        run = replace(run, left_out=UNCERTAIN)
    if options.to in TABLES:
        name, write = TABLES[options.to]
        with whole_file(options.folder, name) as file:
            count = write(run, file)
        return f"{count:,} rows in {options.folder.rstrip('/')}/{name}"
    counts = _export_photos(run, options)
    return f"{_listed(counts)}; in {options.folder}"


def _export_photos(run: RunFiles, options: ExportOptions) -> Counter[str]:
    settings = {
        "run": run.fingerprint, "to": options.to, "max_radius_km": options.max_radius_km,
        "overwrite_gps": options.overwrite_gps,
    }  # fmt: skip
    folder = ExportFolder(options.folder, settings)
    if options.to == "xmp":
        return write_sidecars(run, folder, options.max_radius_km)
    return write_copies(run, folder, options.max_radius_km, options.overwrite_gps)


def _listed(counts: Counter[str]) -> str:
    return "; ".join(f"{count:,} {what}" for what, count in sorted(counts.items()) if count) or "nothing to export"
