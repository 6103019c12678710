"""Predictions beside the truth, image by image."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64, Int, Shaped

from geo_ray.atlas.boundaries import boundaries
from geo_ray.atlas.cities import country_names, gazetteer
from geo_ray.evaluation.bootstrap import Groups, groups_by_block, groups_by_column
from geo_ray.evaluation.matching import Matching, match
from geo_ray.evaluation.tables import Predictions, Truth, read_predictions, read_truth
from geo_ray.evaluation.true_cells import true_cells
from geo_ray.geo.calibration import UNCERTAIN
from geo_ray.geo.sphere import EARTH_RADIUS_KM, great_circle_km

CODE = "<U2"  # of a country by ISO 3166, as numpy holds it: eight bytes
STATED = ("radius_km_50", "radius_km_90", "probability", "region_probability", "country_probability")
PLACE_AS_COUNTRY = "place_as_country"  # whether the true country is that of the nearest place
Judged = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predictions beside the truth: one entry a matched image, NaN or False where there is no answer.

    ``right_cell`` and ``among_candidates`` say whether the true place's cell is the answer's, or that of any candidate;
    None where the run's bundle, which has the cells, is not in reach. Regions are those of the nearest places.
    ``num_places_as_country`` counts images whose true country is that of the nearest place, since the truth's table has
    none that is known.
    """

    ids: pa.Array
    matching: Matching
    groups: Groups
    true_latlon: Float64[np.ndarray, "n 2"]
    latlon: Float64[np.ndarray, "n 2"]
    error_km: Float64[np.ndarray, "n"]
    cell_error_km: Float64[np.ndarray, "n"]
    radius_km_50: Float64[np.ndarray, "n"]
    radius_km_90: Float64[np.ndarray, "n"]
    true_country: Shaped[np.ndarray, "n"]
    country: Shaped[np.ndarray, "n"]
    probability: Float64[np.ndarray, "n"]
    region_probability: Float64[np.ndarray, "n"]
    country_probability: Float64[np.ndarray, "n"]
    is_uncertain: Bool[np.ndarray, "n"]
    num_places_as_country: int
    right_country: Bool[np.ndarray, "n"] | None = None
    right_region: Bool[np.ndarray, "n"] | None = None
    right_cell: Bool[np.ndarray, "n"] | None = None
    among_candidates: Bool[np.ndarray, "n"] | None = None
    inside_country: Bool[np.ndarray, "n"] | None = None
    inside_region: Bool[np.ndarray, "n"] | None = None
    inside_city: Bool[np.ndarray, "n"] | None = None

    @property
    def answered(self) -> Bool[np.ndarray, "n"]:
        """Whether an image has an answer."""
        answered: Bool[np.ndarray, "n"] = ~np.isnan(self.error_km)
        return answered

    @property
    def covered(self) -> dict[str, Float64[np.ndarray, "n"]]:
        """For the 50 % and the 90 % radii: 1 where it holds the truth, 0 where not, NaN without answer or radius."""
        radii = {"50": self.radius_km_50, "90": self.radius_km_90}
        return {share: _is_covered(self.error_km, radius_km) for share, radius_km in radii.items()}

    @property
    def stated(self) -> dict[str, tuple[Float64[np.ndarray, "n"], Bool[np.ndarray, "n"]]]:
        """Probabilities that are stated of cell, region and country, and whether those are right, where it is known."""
        pairs = {
            "cell": (self.probability, self.right_cell),
            "region": (self.region_probability, self.right_region),
            "country": (self.country_probability, self.right_country),
        }
        return {level: (stated, right) for level, (stated, right) in pairs.items() if right is not None}

    def __len__(self) -> int:
        return len(self.error_km)

    def take(self, rows: Int[np.ndarray, "m"]) -> "Comparison":
        """The comparison of these of its images; groups are numbered anew."""
        arrays = {
            field.name: value[rows]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return replace(
            self,
            groups=self.groups.take(rows),
            ids=self.ids.take(pa.array(rows)),
            matching=self.matching.take(rows),
            **arrays,
        )


def load(
    predictions_path: str | Path, truth_path: str | Path, group_by: str | None = None
) -> tuple[Predictions, Truth]:
    """Both tables; raises ``InputError`` where one can't be used. For ``group_by`` see ``read_truth``."""
    return read_predictions(predictions_path), read_truth(truth_path, group_by)


def compare(
    predictions: Predictions, truth: Truth, earth_radius_km: float = EARTH_RADIUS_KM, with_areas: bool = False
) -> Comparison:
    """The errors of all images that both tables have; raises ``InputError`` where they have none in common.

    ``earth_radius_km`` of 6378.137 gives PIGEON's distances, 0.11 % larger. ``with_areas`` looks both points up in the
    boundaries that ship, which takes some seconds and 1.5 GB.
    """
    matching = match(predictions, truth)
    truths = true_places(truth, matching.truth_rows)
    judged = judge(predictions, matching.prediction_rows, *truths, earth_radius_km, with_areas)
    return comparison_of(predictions.ids, truth, matching, judged)


def true_places(truth: Truth, rows: Int[np.ndarray, "m"]) -> tuple[Float64[np.ndarray, "m 2"], Shaped[np.ndarray, "m"]]:
    """The points of these rows, and the codes of their countries, empty where the table has none that is known."""
    if truth.countries is None:
        return truth.latlon[rows], np.zeros(len(rows), CODE)
    return truth.latlon[rows], country_codes(truth.countries[rows])


def comparison_of(ids: pa.Array, truth: Truth, matching: Matching, judged: Judged) -> Comparison:
    """The comparison of all matched rows, from what was judged of each."""
    known = {name: values for name, values in judged.items() if name != PLACE_AS_COUNTRY}
    return Comparison(
        ids=ids if len(matching) == len(ids) else ids.take(pa.array(matching.prediction_rows)),
        matching=matching,
        groups=groups_of(truth, matching.truth_rows),
        num_places_as_country=int(judged[PLACE_AS_COUNTRY].sum()),
        **known,
    )


def judge(
    predictions: Predictions,
    rows: Int[np.ndarray, "m"],
    true_latlon: Float64[np.ndarray, "m 2"],
    true_country: Shaped[np.ndarray, "m"],
    earth_radius_km: float = EARTH_RADIUS_KM,
    with_areas: bool = False,
) -> Judged:
    """What the answers of these rows come to beside their true places: the arrays of a ``Comparison`` by name.

    What the predictions can't tell is left out. Each row is judged alone, so parts may be judged apart and joined.
    """
    unanswered = ~predictions.answered[rows]
    latlon, cell_latlon = predictions.latlon[rows], predictions.cell_latlon[rows]
    latlon[unanswered], cell_latlon[unanswered] = np.nan, np.nan
    near, unknown = gazetteer().places_of(true_latlon), true_country == ""
    countries = np.where(unknown, near.country, true_country).astype(CODE)
    answers = country_codes(predictions.texts("country")[rows])
    scale = earth_radius_km / EARTH_RADIUS_KM
    judged = {
        "true_latlon": true_latlon,
        "latlon": latlon,
        "error_km": great_circle_km(true_latlon, latlon) * scale,
        "cell_error_km": great_circle_km(true_latlon, cell_latlon) * scale,
        "true_country": countries,
        "country": np.where(unanswered, "", answers).astype(CODE),
        "is_uncertain": np.asarray(predictions.texts("problem")[rows] == UNCERTAIN, bool),
        PLACE_AS_COUNTRY: np.asarray(unknown, bool),
    }
    judged |= {name: np.where(unanswered, np.nan, predictions.numbers(name)[rows]) for name in STATED}
    if predictions.has("country"):
        judged["right_country"] = (answers == countries) & ~unanswered
        if predictions.has("region"):
            same = predictions.texts("region")[rows] == near.region
            judged["right_region"] = np.asarray(same & judged["right_country"], bool)
    cells = true_cells(predictions, true_latlon)
    if cells is not None:
        judged["right_cell"] = np.asarray((predictions.texts("cell_id")[rows] == cells) & ~unanswered, bool)
        among = _among_candidates(predictions, rows, cells, unanswered)
        judged |= {} if among is None else {"among_candidates": among}
    return judged | (_inside(true_latlon, latlon) if with_areas else {})


def _inside(true_latlon: Float64[np.ndarray, "n 2"], latlon: Float64[np.ndarray, "n 2"]) -> dict[str, np.ndarray]:
    """Whether each answer lies inside the country, admin 1 and admin 2 of the truth (PIGEON, evaluation/metrics.py).

    The true area is the one that covers the place, or else the nearest; an answer at sea is in none.
    """
    known = boundaries()
    true = known.areas.locate(true_latlon).areas
    found = np.full(len(latlon), -1)
    answered = ~np.isnan(latlon[:, 0])
    found[answered] = known.areas.covering(latlon[answered])
    in_country = (found >= 0) & (known.countries[found] == known.countries[true])
    in_region = in_country & (known.admin_1[found] == known.admin_1[true])
    return {"inside_country": in_country, "inside_region": in_region, "inside_city": found == true}


def _is_covered(error_km: Float64[np.ndarray, "n"], radius_km: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    known = np.isfinite(error_km) & np.isfinite(radius_km)
    return np.where(known, error_km <= radius_km, np.nan)


def _among_candidates(
    predictions: Predictions,
    rows: Int[np.ndarray, "n"],
    cells: Shaped[np.ndarray, "n"],
    unanswered: Bool[np.ndarray, "n"],
) -> Bool[np.ndarray, "n"] | None:
    """Whether each image has the candidate of this id; None where no candidates are known."""
    wanted = np.full(len(predictions.ids), "", dtype=object)
    wanted[rows] = cells
    found = predictions.has_candidate(wanted)
    return None if found is None else np.asarray(found[rows] & ~unanswered, bool)


def groups_of(truth: Truth, rows: Int[np.ndarray, "n"]) -> Groups:
    """The places of these rows: what the truth's column says, or else blocks of a quarter of a degree."""
    if truth.groups is None:
        return groups_by_block(truth.latlon[rows])
    return groups_by_column(truth.groups[rows], truth.group_by or "")


def country_codes(countries: Shaped[np.ndarray, "n"]) -> Shaped[np.ndarray, "n"]:
    """ISO 3166 alpha-2 codes of countries given by code or English name; empty for what is neither."""
    known = {name.casefold(): code for code, name in country_names().items()}
    known |= {code.casefold(): code for code in country_names()}
    encoded = pa.array(countries, pa.string()).dictionary_encode()
    codes = np.array([known.get(name.strip().casefold(), "") for name in encoded.dictionary.to_pylist()] or [""], CODE)
    return np.asarray(codes[encoded.indices.to_numpy()])
