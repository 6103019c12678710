"""Answers that a person can read, in process: for a few images no cluster is worth starting."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from geo_ray.atlas.cities import country_names
from geo_ray.data.sources import Row, batches
from geo_ray.geo.calibration import UNCERTAIN
from geo_ray.models.bundle import Bundle
from geo_ray.pipeline.columns import CODES, EXIF_DISTANCE, EXIF_POINT
from geo_ray.pipeline.graph import Graph
from geo_ray.pipeline.local import run_local

FREE = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0")  # licences of weights that ask for no attention at each answer


def answer_texts(rows: Sequence[Row], graph: Graph, num_views: int = 1) -> Iterator[str]:
    """A few lines for each image: place, coordinates, radius and alternatives, or why there is no answer."""
    for answer in run_local(graph, batches(rows, num_views, max_rows=1)):
        yield _text({name: column[0] for name, column in answer.items()})


def bundle_text(bundle: Bundle) -> str:
    """Which bundle answers and what it is for."""
    text = f"bundle {bundle.ref} ({bundle.fingerprint}): {bundle.description}"
    return text if bundle.licence in FREE else f"{text}\nlicence of its weights: {bundle.licence}"


def _text(row: dict[str, Any]) -> str:
    uncertain = f"\n  uncertain: {CODES[UNCERTAIN]}" if row["problem"] == UNCERTAIN else ""
    if row["problem"] and not uncertain:
        return f"{row['image_id']}\n  no answer: {row['problem']} ({CODES[row['problem']]})"
    others = "\n".join(
        f"    {_share(candidate['probability']):>6}  {_coordinates(candidate['latitude'], candidate['longitude'])}"
        + (f"  {candidate['address']}" if candidate.get("address") else "")
        for candidate in row["candidates"]
        if candidate["cell_id"] != row["cell_id"]
    )
    return (
        f"{row['image_id']}\n" + (f"  {row['address']}\n" if row.get("address") else "") + f"  {_place(row)}\n"
        f"  {_coordinates(row['latitude'], row['longitude'])}   "
        f"({_probabilities(row)})\n"
        f"  {_radii(row)}" + uncertain + _beside_exif(row) + (f"\n  alternatives\n{others}" if others else "")
    )


def _beside_exif(row: dict[str, Any]) -> str:
    """A line on what the photo's EXIF says, where that was to be compared."""
    if np.isnan(row.get(EXIF_DISTANCE.name, np.nan)):
        return ""
    exif = _coordinates(*(row[column.name] for column in EXIF_POINT))
    return f"\n  {_km(row[EXIF_DISTANCE.name])} from {exif}, where its EXIF says it was taken"


def _probabilities(row: dict[str, Any]) -> str:
    if np.isnan(row["probability"]):
        return f"cell {row['cell_id']}"
    country = "" if np.isnan(row["country_probability"]) else f", country {_share(row['country_probability'])}"
    return f"cell {row['cell_id']} {_share(row['probability'])}{country}"


def _share(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.1%}"


def _radii(row: dict[str, Any]) -> str:
    if np.isnan(row["radius_km_50"]) and not np.isnan(row["unlike"]):
        return (
            "unlike the images that this bundle knows: how far off it may be can't be said, and it is likely far off\n"
            f"  (of images that it knows, those of {row['unlike']:.1%} of the places are as unlike the others)"
        )
    if np.isnan(row["radius_km_50"]):
        return "how far off it may be is not known: the bundle is not calibrated (geo-ray bundle calibrate)"
    return f"within {_km(row['radius_km_50'])} with probability 50 %, within {_km(row['radius_km_90'])} with 90 %"


def _place(row: dict[str, Any]) -> str:
    names = (row["place"], row["region"], country_names().get(str(row["country"]), row["country"]))
    near = "near " if row["place"] else ""
    return near + ", ".join(str(name) for name in names if name)


def _coordinates(latitude: float, longitude: float) -> str:
    """Degrees that a map's search box takes."""
    return f"{latitude:.4f}, {longitude:.4f}"


def _km(radius: float) -> str:
    if radius < 1:
        return f"{1000 * radius:.0f} m"
    return f"{radius:,.0f} km" if radius >= 10 else f"{radius:.1f} km"
