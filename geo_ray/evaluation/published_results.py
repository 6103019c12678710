"""What papers report on the benchmarks, as they report it: by photo, in percent, and with the errors of their own code.

Sources: PIGEON (arXiv 2307.05845) tables 1 to 3, StreetCLIP (2302.00275) table 2, GeoCLIP (2309.16020) tables 1 and 2,
OSV-5M's model card, PLONK (2412.06781).
"""

from dataclasses import dataclass

SHARES_KM = (1, 25, 200, 750, 2500)


@dataclass(frozen=True)
class Published:
    """A method's figures: percent of images within each of ``SHARES_KM``, median error, points; None: not reported."""

    method: str
    percent: tuple[float | None, ...] = (None,) * len(SHARES_KM)
    median_km: float | None = None
    geoguessr_score: float | None = None
    country_percent: float | None = None


IM2GPS = (
    Published("PlaNet", (8.4, 24.5, 37.6, 53.6, 71.3)),
    Published("CPlaNet", (16.5, 37.1, 46.4, 62.0, 78.5)),
    Published("ISNs(M, f*, S3)", (16.9, 43.0, 51.9, 66.7, 80.2)),
    Published("Translocator", (19.9, 48.1, 64.6, 75.6, 86.7)),
    Published("GeoDecoder", (22.1, 50.2, 69.0, 80.0, 89.1)),
    Published("StreetCLIP, zero-shot", (None, 28.3, 45.1, 74.7, 88.2)),
    Published("PIGEOTTO", (14.8, 40.9, 63.3, 82.3, 91.1), 70.5),
)
IM2GPS3K = (
    Published("PlaNet", (8.5, 24.8, 34.3, 48.4, 64.6)),
    Published("CPlaNet", (10.2, 26.5, 34.6, 48.6, 64.6)),
    Published("ISNs", (10.5, 28.0, 36.6, 49.7, 66.0)),
    Published("Translocator", (11.8, 31.1, 46.7, 58.9, 80.1)),
    Published("GeoDecoder", (12.8, 33.5, 45.9, 61.0, 76.1)),
    Published("StreetCLIP, zero-shot", (None, 22.4, 37.4, 61.3, 80.4)),
    Published("GeoCLIP", (14.1, 34.5, 50.7, 69.7, 83.8)),
    Published("PIGEOTTO", (11.3, 36.7, 53.8, 72.4, 85.3), 147.3),
)
YFCC4K = (
    Published("PlaNet", (5.6, 14.3, 22.2, 36.4, 55.8)),
    Published("CPlaNet", (7.9, 14.8, 21.9, 36.4, 55.5)),
    Published("ISNs", (6.7, 16.5, 24.2, 37.5, 54.9)),
    Published("Translocator", (8.4, 18.6, 27.0, 41.1, 60.4)),
    Published("GeoDecoder", (10.3, 24.4, 33.9, 50.0, 68.7)),
    Published("GeoCLIP", (9.6, 19.3, 32.6, 55.0, 74.7)),
    Published("PIGEOTTO", (10.4, 23.7, 40.6, 62.2, 77.7), 383.0),
)
YFCC26K = (
    Published("PlaNet", (4.4, 11.0, 16.9, 28.5, 47.7)),
    Published("ISNs", (5.3, 12.3, 19.0, 31.9, 50.7)),
    Published("Translocator", (7.2, 17.8, 28.0, 41.3, 60.6)),
    Published("GeoDecoder", (10.1, 23.9, 34.1, 49.6, 69.0)),
    Published("PIGEOTTO", (10.5, 25.8, 42.7, 63.2, 79.0), 333.3),
)
GWS15K = (
    Published("ISNs", (0.05, 0.6, 4.2, 15.5, 38.5)),
    Published("Translocator", (0.5, 1.1, 8.0, 25.5, 48.3)),
    Published("GeoDecoder", (0.7, 1.5, 8.7, 26.9, 50.5)),
    Published("GeoCLIP", (0.6, 3.1, 16.9, 45.7, 74.1)),
    Published("PIGEOTTO", (0.7, 9.2, 31.2, 65.7, 85.1), 415.4),
)
OSV5M = (
    Published("OSV-5M baseline", geoguessr_score=3361.0, country_percent=68.0),
    Published("PLONK, RFM-S2", geoguessr_score=3767.0, country_percent=76.2),
)
PIGEON_HOLD_OUT = (
    Published("PIGEON", (5.36, 40.36, 78.28, 94.52, 98.56), 44.35, 4525.0, 91.96),
    Published("PIGEON without refinement", (1.32, 34.96, 78.48, 94.82, 98.48), 50.01, 4522.0, 91.14),
    Published("PIGEON, one image in place of four", (0.92, 24.18, 59.04, 82.84, 92.76), 131.1, 3986.0, 74.74),
)
