"""The field's benchmarks, in the files that their authors published; the images are the user's to get."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from geo_ray.errors import InputError
from geo_ray.evaluation import published_results as published
from geo_ray.evaluation.published_results import Published
from geo_ray.evaluation.tables import Truth, check_points, read_column_names, read_truth


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark: what its file looks like, how many images it has, which of them are of one place, what others got.

    ``group_by`` is the column of the author or the sequence, whose images are alike; without it blocks of 0.25 degrees
    are. ``selection`` are a column and the value of the rows that count.
    """

    title: str
    file: str
    num_images: int | None = None
    group_by: str | None = None
    selection: tuple[str, str] | None = None
    results: tuple[Published, ...] = ()
    note: str = ""


GEO_ESTIMATION = "CSV of GeoEstimation: IMG_ID, AUTHOR, LAT, LON, ..."
BENCHMARKS = {
    "im2gps": Benchmark(title="IM2GPS", file=GEO_ESTIMATION, num_images=237, group_by="AUTHOR",
                        results=published.IM2GPS),
    "im2gps3k": Benchmark(title="IM2GPS3k", file=GEO_ESTIMATION, num_images=3000, group_by="AUTHOR",
                          results=published.IM2GPS3K, note="2,997 of its images can still be decoded"),
    "yfcc4k": Benchmark(title="YFCC4k", file=GEO_ESTIMATION, num_images=4536, group_by="AUTHOR",
                        results=published.YFCC4K),
    "yfcc26k": Benchmark(title="YFCC26k", file=GEO_ESTIMATION, num_images=25600, group_by="AUTHOR",
                         results=published.YFCC26K),
    "mp16": Benchmark(title="MP-16", file="CSV mp16_places365.csv or MP16_Pro_places365.csv: IMG_ID, LAT, LON, ...",
                      num_images=4723695, note="training data of most systems: figures on it are no test of these"),
    "gws15k": Benchmark(title="GWS15k", file="CSV gws15k_citygt.csv: FILE, LAT, LON, CITY, COUNTRY", num_images=14955,
                        results=published.GWS15K, note="re-created by others: the authors' images are not public"),
    "osv5m": Benchmark(title="OSV-5M test", file="CSV test.csv: id, latitude, longitude, country, ..., sequence",
                       num_images=210122, results=published.OSV5M,
                       note="it has one image of each sequence, so places are blocks of 0.25 degrees"),
    "pigeon": Benchmark(title="PIGEON's hold-out", file="CSV: image, lat, lng, selection, country_name, ...",
                        num_images=5000, selection=("selection", "test"), results=published.PIGEON_HOLD_OUT,
                        note="four views of a location are one item: geotag with --views-by"),
    "pitts-ial": Benchmark(title="Pitts-IAL", file="JSON pitts_queries.json: path -> [caption, verbose, address]",
                           num_images=19152, note="coordinates are those in the names of the images"),
}  # fmt: skip

# Names of images as the tools of visual place recognition write them: @UTM east@UTM north@zone@letter@lat@lon@...
VPR_NAME = re.compile(r"@[^@]*@[^@]*@[^@]*@[^@]*@(?P<latitude>-?[\d.]+)@(?P<longitude>-?[\d.]+)@")


@dataclass(frozen=True, kw_only=True)
class BenchmarkTruth:
    """A benchmark's true places, and sentences on what was found odd in its file."""

    truth: Truth
    notes: tuple[str, ...]


def read_benchmark(name: str, path: str | Path) -> BenchmarkTruth:
    """The true places of a benchmark, from the file that its authors published; ``InputError`` where it is another.

    A file whose headers of latitude and longitude are swapped, as one of IM2GPS3k once was, is read the right way. Rows
    at (0, 0), which is how some mark what they don't know, are counted.
    """
    benchmark = benchmark_of(name)
    truth = _from_names(path) if str(path).endswith(".json") else _from_table(path, benchmark)
    truth, notes = _upright(truth)
    num_at_zero = int((truth.latlon == 0).all(axis=1).sum())
    if num_at_zero:
        notes.append(f"{num_at_zero:,} rows of {truth.path} are at (0, 0), which may mean unknown; they count")
    if benchmark.num_images is not None and len(truth.latlon) != benchmark.num_images:
        notes.append(f"{benchmark.title} has {benchmark.num_images:,} images, {truth.path} {len(truth.latlon):,}")
    if benchmark.note:
        notes.append(f"{benchmark.title}: {benchmark.note}")
    return BenchmarkTruth(truth=truth, notes=tuple(notes))


def benchmark_of(name: str) -> Benchmark:
    """The benchmark of this name; ``InputError`` lists those there are."""
    if name not in BENCHMARKS:
        raise InputError(f"no benchmark is called {name!r}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def _from_table(path: str | Path, benchmark: Benchmark) -> Truth:
    columns = {name.casefold() for name in read_column_names(path)}
    group_by = benchmark.group_by if (benchmark.group_by or "").casefold() in columns else None
    selection = benchmark.selection if benchmark.selection and benchmark.selection[0] in columns else None
    return read_truth(path, group_by, selection, check_range=False)


def _from_names(path: str | Path) -> Truth:
    """The places in the names of images, which are the keys of a JSON object."""
    try:
        names = list(dict(json.loads(Path(path).read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no JSON object of images ({error}); give the file of annotations") from error
    found = [VPR_NAME.search(name) for name in names]
    if not names or not all(found):
        raise InputError(
            f"{path}: names such as {(names or [''])[0]!r} hold no latitude and longitude; give a CSV of image_id, "
            "latitude and longitude instead, such as from the .mat file of Pitts250k"
        )
    latlon = np.array([[float(one["latitude"]), float(one["longitude"])] for one in found if one], np.float64)
    return Truth(path=str(path), ids=pa.array(names), latlon=latlon, countries=None)


def _upright(truth: Truth) -> tuple[Truth, list[str]]:
    """The truth with latitude first, and what was said of it."""
    if _in_range(truth.latlon):
        return truth, []
    swapped = np.ascontiguousarray(truth.latlon[:, ::-1])
    if not _in_range(swapped):
        check_points(truth.latlon, truth.path)
    note = f"the headers of latitude and longitude are swapped in {truth.path}; they were read the right way"
    return replace(truth, latlon=swapped), [note]


def _in_range(latlon: Float64[np.ndarray, "n 2"]) -> bool:
    return bool((np.abs(latlon) <= (90.0, 180.0)).all())
