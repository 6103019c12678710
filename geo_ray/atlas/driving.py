"""On which side of the road people drive, by country."""

import numpy as np
from jaxtyping import Int, Shaped

from geo_ray.atlas.geonames import english_names

LEFT, RIGHT, MISSING = 0, 1, -1
# ISO 3166 codes of countries and territories where people drive on the left (worldstandards.eu, 2024).
LEFT_DRIVING = frozenset(
    {"AG", "AI", "AU", "BB", "BD", "BM", "BN", "BS", "BT", "BW", "CC", "CK", "CX", "CY", "DM", "FJ", "FK", "GB", "GD"}
    | {"GG", "GY", "HK", "ID", "IE", "IM", "IN", "JE", "JM", "JP", "KE", "KI", "KN", "KY", "LC", "LK", "LS", "MO", "MS"}
    | {"MT", "MU", "MV", "MW", "MY", "MZ", "NA", "NF", "NP", "NR", "NU", "NZ", "PG", "PK", "PN", "SB", "SC", "SG", "SH"}
    | {"SR", "SZ", "TC", "TH", "TK", "TL", "TO", "TT", "TV", "TZ", "UG", "VC", "VG", "VI", "WS", "ZA", "ZM", "ZW"}
)
NO_ROADS = frozenset({"AQ", "BV", "HM", "TF", "GS", "UM"})


def drive_sides(countries: Shaped[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """``LEFT`` or ``RIGHT`` for each ISO 3166 alpha-2 code, ``MISSING`` for what is no country or has no roads."""
    known = english_names()
    sides = {code: MISSING if code in NO_ROADS else LEFT if code in LEFT_DRIVING else RIGHT for code in known}
    return np.array([sides.get(code, MISSING) for code in countries.tolist()], np.int64)
