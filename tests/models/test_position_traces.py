"""What looks like a position, wherever it stands in a photo, and what doesn't."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from geo_ray.models.exif import gps_position, looks_located
from geo_ray.models.position_traces import EXTENSION, position_traces
from tests.gps_photos import FORMATS, PARIS_TAGS, gps_exif, photo, plain, rational
from tests.models.pictures import encoded, noise

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
LATITUDE, LONGITUDE = "48,51.5N", "2,17.67E"


def xmp(inside: str, attributes: str = "") -> bytes:
    return (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" {attributes}>{inside}'
            "</rdf:Description></rdf:RDF></x:xmpmeta>").encode()  # fmt: skip


def attributes_of(latitude: str, longitude: str, prefix: str = "exif:GPS") -> bytes:
    return xmp("", f'{prefix}Latitude="{latitude}" {prefix}Longitude="{longitude}"')


PACKETS = [
    attributes_of(LATITUDE, LONGITUDE),
    attributes_of(LATITUDE, LONGITUDE).replace(b'"', b"'"),
    attributes_of(LATITUDE, LONGITUDE, "e:GPS"),
    attributes_of("-33.8", "+151.2", "drone-dji:Gps"),
    attributes_of("48.85", "0", "Camera:GPS"),
    attributes_of("48/1 51/1 30/1", "2/1 17/1 40/1"),
    xmp('<geo:lat>48.85</geo:lat> <geo:long>2.29</geo:long>'),
    xmp('<drone-dji:GpsLatitude>48.85</drone-dji:GpsLatitude><drone-dji:GpsLongtitude>2</drone-dji:GpsLongtitude>'),
    xmp(f"<exif:GPSLatitude>{LATITUDE}</exif:GPSLatitude>\n<exif:GPSLongitude>{LONGITUDE}</exif:GPSLongitude>"),
    xmp(f'<exif:GPSLatitude rdf:datatype="x">{LATITUDE}</exif:GPSLatitude>', f'exif:GPSLongitude="{LONGITUDE}"'),
    xmp(f"<Iptc:LocationCreated><rdf:Bag><rdf:li exif:GPSLatitude='{LATITUDE}' exif:GPSLongitude='{LONGITUDE}'/>"
        "</rdf:Bag></Iptc:LocationCreated>"),
    xmp('<exif:GPSPosition>48.85, 2.29</exif:GPSPosition>'),
    xmp("<exif:GPSLatitude><rdf:Seq><rdf:li>48/1</rdf:li></rdf:Seq></exif:GPSLatitude>"
        "<exif:GPSLongitude><rdf:Seq><rdf:li>2/1</rdf:li></rdf:Seq></exif:GPSLongitude>"),
]  # fmt: skip
NO_PACKETS = [
    attributes_of("0,0.0N", "0,0.0E"),
    attributes_of("0/1", "0/1"),
    attributes_of("", ""),
    xmp("", 'exif:GPSLatitude="48,51.5N"'),
    xmp("", 'exif:GPSLatitudeRef="1" exif:GPSLongitudeRef="2" exif:GPSDestLatitude="48" exif:GPSDestLongitude="2"'),
    xmp("", 'exif:GPSVersionID="2.3.0.0" exif:GPSMapDatum="WGS-84" exif:GPSAltitude="35/1"'),
    xmp("<dc:description>flat=1 plate=2 lateral long 5</dc:description>"),
]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(kind: bytes, body: bytes) -> bytes:
    content = plain("PNG")
    return content[:33] + chunk(kind, body) + content[33:]


def jpeg_with(*bodies: bytes) -> bytes:
    content = plain()
    segments = b"".join(struct.pack(">HH", 0xFFE1, len(body) + 2) + body for body in bodies)
    return content[:2] + segments + content[2:]


def profile(name: bytes, content: bytes) -> bytes:
    """As ImageMagick writes it into a text."""
    return b"\n%s\n%8d\n%s\n" % (name, len(content), content.hex().encode())


@pytest.mark.parametrize("packet", PACKETS)
def test_xmp_in_any_spelling(packet):
    assert looks_located(encoded(noise(8, 8), "JPEG", xmp=packet))


@pytest.mark.parametrize("packet", NO_PACKETS)
def test_what_is_no_position_in_xmp(packet):
    assert not looks_located(encoded(noise(8, 8), "JPEG", xmp=packet))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_xmp_in_every_format(image_format, encoding):
    packet = PACKETS[0].decode().encode(encoding)
    options = {"tiffinfo": {700: packet}} if image_format == "TIFF" else {"xmp": packet}
    plain(image_format)  # Pillow knows it then
    assert looks_located(encoded(noise(64, 48), image_format, **options))


def test_xmp_in_gif_and_jpeg_2000():
    for image_format in ("GIF", "JPEG2000"):
        content = encoded(noise(8, 8), image_format)
        assert not looks_located(content)
        assert looks_located(content + PACKETS[0])  # a block of its own; how it is wrapped doesn't matter


@pytest.mark.parametrize(
    "content",
    [png_with(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + PACKETS[0]),
     png_with(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0x\0" + zlib.compress(PACKETS[0])),
     png_with(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(PACKETS[8])),
     png_with(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(profile(b"xmp", PACKETS[0]))),
     png_with(b"tEXt", b"Raw profile type xmp\0" + profile(b"xmp", PACKETS[0])),
     png_with(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile(b"exif", gps_exif()))),
     png_with(b"tEXt", b"Raw profile type APP1\0" + profile(b"generic profile", gps_exif())[1:]),
     png_with(b"eXIf", gps_exif()[6:]),
     png_with(b"tEXt", b"exif:GPSLatitude\x0048/1, 51/1, 30/1") [:-12]
     + chunk(b"tEXt", b"exif:GPSLongitude\x002/1, 17/1") + chunk(b"IEND", b"")],
)  # fmt: skip
def test_png_in_all_its_ways(content):
    assert looks_located(content)


@pytest.mark.parametrize(
    "tags",
    [{2: PARIS_TAGS[2], 4: PARIS_TAGS[4]}, {1: "N", 2: (48.0, 51.0, 30.0), 4: (2.0, 17.0, 40.2)},
     {1: "X", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.2)}, {2: (91.0, 0.0, 0.0), 4: (2.0, 0.0, 0.0)},
     {1: "N", 2: (48.0, 99.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.2)}, {2: (0.0, 0.0, 0.0), 4: (2.0, 17.0, 40.2)},
     {1: "N", 2: (rational(48, 1), rational(51, 1), rational(30, 0)), 3: "E", 4: (2.0, 17.0, 40.2)}],
)  # fmt: skip
@pytest.mark.parametrize("image_format", FORMATS)
def test_odd_exif_in_every_format(tags, image_format):
    content = photo(image_format, tags=tags)
    assert gps_position(content) is None
    assert looks_located(content)


@pytest.mark.parametrize(
    "tags",
    [{2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, {1: "N", 3: "E"}, {29: "2024:01:01", 6: 35.0},
     {1: "N", 2: (48.0, 51.0, 30.0)}, {2: (rational(0, 0),) * 3, 4: (rational(0, 0),) * 3}],
)  # fmt: skip
@pytest.mark.parametrize("image_format", FORMATS)
def test_what_is_no_position_in_exif(tags, image_format):
    assert not looks_located(photo(image_format, tags=tags))


def block(kind: int, latitude: bytes, longitude: bytes, order: str = "<", pointer: int = 0x8825) -> bytes:
    """EXIF whose GPS directory holds three numbers of a type for each axis."""
    count = 3
    gps = struct.pack(f"{order}HHHII", 2, 2, kind, count, 56) + struct.pack(
        f"{order}HHIII", 4, kind, count, 56 + len(latitude), 0
    )
    start = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(f"{order}IHHHIII", 8, 1, pointer, 4, 1, 26, 0)
    return start + first + gps + latitude + longitude


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "letters"), [(5, "II"), (10, "ii"), (11, "f"), (12, "d"), (3, "H"), (4, "I"), (9, "i"), (8, "h")]
)
def test_numbers_of_any_type(order, kind, letters):
    sign = -1 if kind in (8, 9, 10) else 1
    packed = [b"".join(struct.pack(f"{order}{letters}", *(sign * part, 1)[: len(letters)]) for part in axis)
              for axis in ((48, 51, 30), (2, 17, 40))]  # fmt: skip
    exif = block(kind, *packed, order)
    if len(packed[0]) > 4:
        assert position_traces(jpeg_with(b"Exif\0\0" + exif)) == ("exif",)
        assert not position_traces(jpeg_with(b"Exif\0\0" + block(kind, *packed, order, pointer=0x8826)))


def test_a_second_exif_segment_and_none_in_the_first():
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    content = jpeg_with(b"Exif\0\0" + exif.tobytes()[6:], gps_exif())
    assert gps_position(content) is None
    assert position_traces(content) == ("exif",)


def test_a_directory_that_hangs_elsewhere():
    """Below the Exif directory, and in the second of the chain, where the thumbnail is told of."""
    gps = gps_exif()[6:]
    assert gps[:2] == b"MM"
    below = gps[:4] + struct.pack(">I", len(gps)) + gps[8:]
    below += struct.pack(">HHHIII", 1, 0x8769, 4, 1, 8, 0)
    following = gps[:4] + struct.pack(">I", len(gps)) + gps[8:] + struct.pack(">HI", 0, 8)
    for exif in (below, following):
        assert position_traces(jpeg_with(b"Exif\0\0" + exif)) == ("exif",)


def test_xmp_that_is_split():
    """Right through the name of a property; the pieces out of order."""
    packet = xmp("<a:b>" + "x" * 300 + "</a:b>", f'e:GPSLatitude="{LATITUDE}" e:GPSLongitude="{LONGITUDE}"')
    cut = packet.index(b"Latitude") + 3
    pieces = [(0, packet[:cut]), (cut, packet[cut:])]
    bodies = [EXTENSION + b"D" * 32 + struct.pack(">II", len(packet), at) + part for at, part in pieces]
    assert position_traces(jpeg_with(*bodies)) == position_traces(jpeg_with(*reversed(bodies))) == ("xmp",)


@pytest.mark.parametrize("content", [None, b"", b"no image", b"II*\0", b"MM\0*\0\0\0\x08", b"MM\0*" + b"\xff" * 50])
def test_what_is_no_image(content):
    assert not looks_located(content)


def test_a_directory_that_points_at_itself():
    assert not position_traces(b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x014A, 4, 1, 8, 8))


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_position_and_damage_never_raises(seed):
    rng = np.random.default_rng(seed)
    content = bytearray(rng.integers(0, 256, 200_000, dtype=np.uint8).tobytes())
    for at in rng.integers(0, len(content) - 4, 2000):
        content[at : at + 4] = b"II*\0" if at % 2 else b"MM\0*"
    assert position_traces(bytes(content)) == ()
    exif = gps_exif()
    for _ in range(300):
        damaged = bytearray(exif)
        for at in rng.integers(6, len(damaged), rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        position_traces(bytes(damaged[: rng.integers(10, len(damaged) + 1)]))
