"""A position as photo files hold it: EXIF (CIPA DC-008, 4.6.6) and XMP (ISO 16684-1, the exif namespace)."""

import math
from dataclasses import dataclass

METHOD = "geo-ray"  # GPSProcessingMethod: tells an estimate from what a receiver measured
Rational = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Position:
    """A point in degrees, and the radius in km that holds the truth with a probability of 90 %, where it is known."""

    latitude: float
    longitude: float
    radius_km: float | None = None

    @property
    def hemispheres(self) -> tuple[str, str]:
        """N or S, and E or W."""
        return "S" if self.latitude < 0 else "N", "W" if self.longitude < 0 else "E"

    @property
    def error_m(self) -> int | None:
        """The radius in whole metres, rounded up."""
        return None if self.radius_km is None else math.ceil(self.radius_km * 1000)


def sexagesimal(degrees: float) -> tuple[Rational, Rational, Rational]:
    """Degrees, minutes and seconds to a millionth, without sign."""
    minutes, seconds = divmod(round(abs(degrees) * 3600 * 10**6), 60 * 10**6)
    return (minutes // 60, 1), (minutes % 60, 1), (seconds, 10**6)


def decimal_minutes(degrees: float) -> str:
    """Degrees and minutes to a millionth, without sign: ``48,51.500000``."""
    millionths = round(abs(degrees) * 60 * 10**6)
    whole, rest = divmod(millionths, 60 * 10**6)
    return f"{whole},{rest // 10**6}.{rest % 10**6:06d}"


XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="geo-ray">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/"
{attributes}/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def sidecar(position: Position) -> bytes:
    """An XMP file that gives an image this position."""
    north, east = position.hemispheres
    values = {
        "GPSVersionID": "2.3.0.0",
        "GPSLatitude": decimal_minutes(position.latitude) + north,
        "GPSLongitude": decimal_minutes(position.longitude) + east,
        "GPSMapDatum": "WGS-84",
        "GPSProcessingMethod": METHOD,
    }
    if position.error_m is not None:
        values["GPSHPositioningError"] = f"{position.error_m}/1"
    return XMP.format(attributes="\n".join(f'   exif:{name}="{value}"' for name, value in values.items())).encode()
