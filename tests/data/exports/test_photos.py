"""Sidecars and copies: what other readers find in them, and that no original changes."""

import hashlib
import io
import xml.etree.ElementTree as ET
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from geo_ray.cli import main
from geo_ray.data.exports.export import ExportOptions, export
from geo_ray.data.exports.gps_directory import NotWritableError, with_position
from geo_ray.data.exports.jpeg import jpeg_with_position
from geo_ray.data.exports.position import Position, decimal_minutes, sexagesimal, sidecar
from geo_ray.errors import InputError, OutputError
from geo_ray.models.exif import gps_position
from geo_ray.models.position_traces import position_traces
from tests.data.run_folders import PLACE, answer, problem, write_run
from tests.gps_photos import PARIS_TAGS, gps_exif, photo, plain, rational

EXIF = "{http://ns.adobe.com/exif/1.0/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
SYDNEY = Position(latitude=-33.856784, longitude=151.215297, radius_km=12.3456)
GPS = ExifTags.IFD.GPSInfo
DEGREES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def read_sidecar(content):
    """The position as a program for photos reads it, and the other properties."""
    properties = dict(ET.fromstring(content).find(f".//{RDF}Description").attrib)
    point = [_signed(properties.pop(f"{EXIF}{name}")) for name in ("GPSLatitude", "GPSLongitude")]
    return point, {name.removeprefix(EXIF): value for name, value in properties.items() if name.startswith(EXIF)}


def _signed(text):
    degrees, minutes = text[:-1].split(",")
    return (int(degrees) + float(minutes) / 60) * (-1 if text[-1] in "SW" else 1)


def scan(content):
    """All of a JPEG but its EXIF: what must not change."""
    at, kept = 2, content[:2]
    while content[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if not (content[at + 1] == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0"):
            kept += content[at:end]
        at = end
    return kept + content[at:]


def gps_tags(content):
    with Image.open(io.BytesIO(content)) as image:
        return dict(image.getexif().get_ifd(GPS))


def digests(folder):
    return {path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


# Numbers


@pytest.mark.parametrize(
    ("degrees", "parts", "minutes"),
    [
        (48.858333333333334, (48, 51, 30), "48,51.500000"),
        (-122.654321, (122, 39, 15.5556), "122,39.259260"),
        (0.0, (0, 0, 0), "0,0.000000"),
        (-180.0, (180, 0, 0), "180,0.000000"),
        (59.99999999999, (60, 0, 0), "60,0.000000"),  # never 60 minutes or seconds
        (0.9999999999999, (1, 0, 0), "1,0.000000"),
        (-1e-9, (0, 0, 4e-6), "0,0.000000"),
    ],
)
def test_degrees_by_hand(degrees, parts, minutes):
    assert [a / b for a, b in sexagesimal(degrees)] == pytest.approx(parts, abs=5e-7)
    assert decimal_minutes(degrees) == minutes


@settings(deadline=None)
@given(st.floats(-180, 180))
def test_numbers_are_in_range_and_close(degrees):
    (whole, _), (minutes, _), (seconds, unit) = sexagesimal(degrees)
    assert minutes < 60
    assert seconds < 60 * unit
    assert abs(whole + minutes / 60 + seconds / unit / 3600 - abs(degrees)) < 1e-9
    text = decimal_minutes(degrees).split(",")
    assert float(text[1]) < 60
    assert abs(int(text[0]) + float(text[1]) / 60 - abs(degrees)) < 1e-8


# Sidecars


@settings(deadline=None)
@given(DEGREES)
def test_a_sidecar_gives_the_point_back(point):
    position = Position(latitude=point[0], longitude=point[1])
    found, _ = read_sidecar(sidecar(position))
    assert found == pytest.approx(point, abs=1e-7)


def test_a_sidecar_says_how_accurate_it_is():
    point, more = read_sidecar(sidecar(SYDNEY))
    assert point == pytest.approx((-33.856784, 151.215297), abs=1e-8)
    assert more["GPSHPositioningError"] == "12346/1"  # metres, rounded up
    assert more["GPSProcessingMethod"] == "geo-ray"
    assert "GPSHPositioningError" not in read_sidecar(sidecar(Position(latitude=1.0, longitude=2.0)))[1]


def test_sidecars_mirror_the_ids_of_answers(tmp_path):
    rows = [
        answer("a.jpg"), answer("2024/b.HEIC", radius_km_90=None), problem("bad.jpg"), answer("../c.jpg"),
        answer("t.tar#x/1.jpg"), answer("/abs/d.jpg"),
    ]  # fmt: skip
    run = write_run(tmp_path / "run", rows)
    said = export(ExportOptions(run=str(run), to="xmp", output=str(tmp_path / "side")))
    assert said == f"5 sidecars; 1 without an answer, left out; in {tmp_path}/side"
    found = {path.relative_to(tmp_path / "side").as_posix(): path for path in (tmp_path / "side").rglob("*.xmp")}
    assert found.keys() == {
        "a.jpg.xmp", "2024/b.HEIC.xmp", "%2E%2E/c.jpg.xmp", "t.tar#x/1.jpg.xmp", "%2Fabs/d.jpg.xmp",
    }  # fmt: skip
    for name, path in found.items():
        point, more = read_sidecar(path.read_bytes())
        assert point == pytest.approx((PLACE["latitude"], PLACE["longitude"]), abs=1e-7)
        assert ("GPSHPositioningError" in more) == (name != "2024/b.HEIC.xmp")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "side"}


def test_wide_and_unknown_radii_are_left_out(tmp_path):
    rows = [answer("near", radius_km_90=9.9), answer("edge", radius_km_90=10.0), answer("far", radius_km_90=10.1),
            answer("unknown", radius_km_90=None)]  # fmt: skip
    run = write_run(tmp_path / "run", rows)
    said = export(ExportOptions(run=str(run), to="xmp", max_radius_km=10.0))
    assert said.startswith("2 sidecars; 2 with a larger or unknown radius, left out;")
    assert {path.name for path in (run / "xmp").glob("*.xmp")} == {"near.xmp", "edge.xmp"}


def test_sidecars_are_never_beside_the_originals(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(plain())
    run = write_run(tmp_path / "run", [answer("a.jpg", photos / "a.jpg")])
    before = digests(photos)
    for to in ("xmp", "copies"):
        with pytest.raises(OutputError, match="holds other files"):
            export(ExportOptions(run=str(run), to=to, output=str(photos)))
    assert digests(photos) == before


# JPEG


def test_a_plain_jpeg_gets_a_position():
    content = plain()
    written = jpeg_with_position(content, SYDNEY)
    assert scan(written) == scan(content)
    assert gps_position(written) == pytest.approx((-33.856784, 151.215297), abs=1e-9)
    tags = gps_tags(written)
    assert tags[ExifTags.GPS.GPSHPositioningError] == 12346
    assert tags[ExifTags.GPS.GPSMapDatum] == "WGS-84"
    assert tags[ExifTags.GPS.GPSProcessingMethod] == b"ASCII\0\0\0geo-ray"
    assert written[2:4] == b"\xff\xe0"  # JFIF's segment stays the first
    assert 31 not in gps_tags(jpeg_with_position(content, Position(latitude=1.0, longitude=2.0)))


@settings(deadline=None, max_examples=50)
@given(DEGREES.filter(lambda point: max(map(abs, point)) > 1e-6))
def test_every_point_comes_back(point):
    written = jpeg_with_position(JPEG, Position(latitude=point[0], longitude=point[1]))
    assert gps_position(written) == pytest.approx(point, abs=1e-9)


JPEG = plain()


def camera_exif(order="<", notes=b"notes of the camera at an offset that only it knows"):
    """EXIF like a camera's, in either byte order: exposure, its own notes, and a thumbnail in a second directory."""
    exif = Image.Exif()
    exif.endian = order
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Camera", 6
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExposureTime: rational(1, 250), ExifTags.Base.MakerNote: notes,
        ExifTags.Base.DateTimeOriginal: "2024:06:01 12:00:00",
    }  # fmt: skip
    return exif.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_other_exif_stays_where_it_was(order):
    """The camera's notes hold offsets into the block, so not a byte of it may move."""
    exif = camera_exif(order)
    content = photo(exif=exif)
    written = jpeg_with_position(content, SYDNEY)
    assert gps_position(written) == pytest.approx((-33.856784, 151.215297), abs=1e-9)
    block = exif.removeprefix(b"Exif\0\0")
    at = written.index(b"Exif\0\0") + 6
    assert written[at : at + 4] == block[:4]
    assert written[at + 8 : at + len(block)] == block[8:]  # before it, the pointer to the first directory
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(written)) as after:
        ours = dict(after.getexif())
        assert ours.pop(GPS) > len(block) - 2
        assert ours == dict(before.getexif())
        assert after.getexif().get_ifd(ExifTags.IFD.Exif) == before.getexif().get_ifd(ExifTags.IFD.Exif)
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


def test_a_thumbnail_is_still_found():
    """Its directory follows the first, which moves to the end of the block."""
    thumbnail = plain(image=Image.new("RGB", (16, 12), "red"))
    first = b"\0\1" + bytes.fromhex("0112 0003 00000001 0006 0000".replace(" ", ""))
    at = 8 + len(first) + 4
    second = b"\0\2" + b"".join(
        bytes.fromhex(tag + "0004" + "00000001") + value.to_bytes(4)
        for tag, value in (("0201", at + 2 + 24 + 4), ("0202", len(thumbnail)))
    ) + bytes(4)  # fmt: skip
    block = b"MM\0*\0\0\0\x08" + first + at.to_bytes(4) + second + thumbnail
    written = jpeg_with_position(photo(exif=b"Exif\0\0" + block), SYDNEY)
    with Image.open(io.BytesIO(written)) as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Orientation] == 6
        found = exif.get_ifd(ExifTags.IFD.IFD1)
        start = written.index(b"Exif\0\0") + 6 + found[0x0201]
        assert written[start : start + found[0x0202]] == thumbnail


def test_an_old_position_is_gone_and_the_compass_stays():
    tags = PARIS_TAGS | {5: b"\0", 6: rational(35, 1), 16: "T", 17: rational(271, 2), 29: "2024:06:01", 8: "secret"}
    content = photo(tags=tags)
    written = jpeg_with_position(content, SYDNEY)
    assert gps_position(written) == pytest.approx((-33.856784, 151.215297), abs=1e-9)
    found = gps_tags(written)
    assert (found[16], found[17], found[29]) == ("T", Fraction(271, 2), "2024:06:01")
    assert not found.keys() & {5, 6, 8}
    for old in (np.array([48, 1, 51, 1, 30, 1], ">u4").tobytes(), b"secret"):
        assert old in content
        assert old not in written
    assert scan(written) == scan(content)


def test_written_twice_is_like_written_once():
    once = jpeg_with_position(jpeg_with_position(plain(), Position(latitude=1.0, longitude=2.0)), SYDNEY)
    assert gps_position(once) == pytest.approx((-33.856784, 151.215297), abs=1e-9)
    assert gps_tags(once) == gps_tags(jpeg_with_position(plain(), SYDNEY))


def test_the_segments_around_it_stay():
    """ICC profile, XMP, comment, and what follows the image, as phones put a film there."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(
        buffer, "JPEG", icc_profile=b"icc" * 30_000, comment=b"hello", xmp=b"<x/>", exif=camera_exif(), progressive=True
    )
    content = buffer.getvalue() + b"\0\0\0\x18ftypmp42 a film"
    written = jpeg_with_position(content, SYDNEY)
    assert scan(written) == scan(content)
    assert len(written) > len(content)


def segment(marker, body):
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (photo(exif=b"Exif\0\0garbage"), "its EXIF is damaged"),
        (photo(exif=b"Exif\0\0II*\0\xff\xff\0\0"), "its EXIF is damaged"),
        (photo(exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0"), "its EXIF is damaged"),
        (photo(exif=camera_exif(notes=bytes(65_250))), "its EXIF is full"),
        (JPEG[:2] + segment(0xE1, gps_exif()) + segment(0xE1, gps_exif()) + JPEG[2:], "its EXIF is in several pieces"),
        (JPEG[:2] + segment(0xE2, b"MPF\0") + segment(0xE1, gps_exif()) + JPEG[2:], "follows its list of pictures"),
        (JPEG[:2] + b"\xff\xe0\xff\xff", "it is damaged"),
        (JPEG[:2] + b"\xff", "it is damaged"),
        (JPEG[:4] + b"\0\1" + JPEG[6:], "it is damaged"),
    ],
)
def test_what_cannot_be_extended_says_so(content, why):
    with pytest.raises(NotWritableError, match=why):
        jpeg_with_position(content, SYDNEY)


def test_a_position_that_exif_cannot_say():
    """(0, 0) is what a camera without a fix writes."""
    with pytest.raises(NotWritableError):
        jpeg_with_position(plain(), Position(latitude=0.0, longitude=0.0))


def test_damaged_exif_gives_a_position_or_a_reason():
    """Never another error, and never a changed image."""
    rng, whole = np.random.default_rng(1), photo(tags=PARIS_TAGS | {29: "2024:06:01", 17: rational(1, 2)})
    start = whole.index(b"Exif")
    done = 0
    for _ in range(1000):
        content = bytearray(whole)
        for at in rng.integers(start + 6, start + 140, rng.integers(1, 5)):
            content[at] = rng.integers(256)
        try:
            written = jpeg_with_position(bytes(content), SYDNEY)
        except NotWritableError:
            continue
        done += 1
        assert scan(written) == scan(whole)
        assert gps_position(written) == pytest.approx((-33.856784, 151.215297), abs=1e-9)
    assert 100 < done < 1000


def test_an_empty_block_by_hand():
    block = with_position(b"", SYDNEY)
    assert block[:4] == b"II*\0"
    exif = Image.Exif()
    exif.load(block)
    assert exif.get_ifd(GPS)[2] == (33, 51, Fraction("24.4224"))


# Copies


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "2024").mkdir(parents=True)
    files = {
        "2024/plain.jpg": plain(), "camera.JPG": photo(exif=camera_exif()), "gps.jpg": photo(), "p.png": plain("PNG"),
        "gps.webp": photo("WEBP"), "h.heic": plain("HEIF"), "odd.jpg": photo(exif=b"Exif\0\0garbage"),
        "wrong_suffix.png": plain(),
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def run_of(photos, tmp_path, more=()):
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*")) if path.is_file()]
    return write_run(tmp_path / "run", [answer(name, photos / name) for name in names] + list(more))


def test_copies_carry_the_position(photos, tmp_path):
    before = digests(photos)
    run = run_of(photos, tmp_path, [problem("bad.jpg"), answer("moved.jpg"), answer("t.tar#k", photos / "t.tar#k")])
    said = export(ExportOptions(run=str(run), to="copies", output=str(tmp_path / "copies")))
    assert sorted(said.split("; ")) == [
        "1 without an answer, left out",
        "2 copies that keep the position they had",
        "2 whose original can't be read where its uri says",
        "3 copies with a sidecar (not JPEG, or EXIF that can't be extended)",
        "3 copies with the position in their EXIF",
        f"in {tmp_path}/copies",
    ]
    assert digests(photos) == before
    there = {path.relative_to(tmp_path / "copies").as_posix(): path.read_bytes()
             for path in (tmp_path / "copies").rglob("*") if path.is_file()}  # fmt: skip
    originals = {path.relative_to(photos).as_posix(): path.read_bytes() for path in photos.rglob("*.*")
                 if path.is_file()}  # fmt: skip
    beside = {"p.png", "h.heic", "odd.jpg"}
    assert there.keys() - {"geo-ray-export.json"} == originals.keys() | {f"{name}.xmp" for name in beside}
    for name, original in originals.items():
        if name.startswith("gps") or name in beside:
            assert there[name] == original
        else:
            assert gps_position(there[name]) == pytest.approx((PLACE["latitude"], PLACE["longitude"]), abs=1e-9)
            assert scan(there[name]) == scan(original)
    for name in beside:
        assert read_sidecar(there[f"{name}.xmp"])[0] == pytest.approx((48.858, 2.2945), abs=1e-7)


def test_positions_are_overwritten_on_request(photos, tmp_path):
    run = run_of(photos, tmp_path)
    said = export(ExportOptions(run=str(run), to="copies", overwrite_gps=True))
    assert "1 copies that keep the position they had: it can't be replaced" in said
    written = (run / "copies" / "gps.jpg").read_bytes()
    assert gps_position(written) == pytest.approx((PLACE["latitude"], PLACE["longitude"]), abs=1e-9)
    assert (run / "copies" / "gps.webp").read_bytes() == (photos / "gps.webp").read_bytes()
    assert not (run / "copies" / "gps.webp.xmp").exists()
    with pytest.raises(OutputError, match="holds another export"):
        export(ExportOptions(run=str(run), to="copies"))


XMP_PARIS = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<r:Description e:GPSLatitude="48,51.5N" xmlns:e="http://ns.adobe.com/exif/1.0/" e:GPSTimeStamp="2024-06-01"
d:Title="GPS">
<e:GPSLongitude>2,17.67E</e:GPSLongitude><e:GPSAltitude r:resource="35/1"/></r:Description></r:RDF></x:xmpmeta>"""


def jpeg_with_xmp(packet, exif=b""):
    buffer = io.BytesIO()
    Image.radial_gradient("L").save(buffer, "JPEG", xmp=packet, exif=exif)
    return buffer.getvalue()


def test_a_position_in_xmp_is_replaced_too():
    """Lightroom writes both; blanks keep all where it was."""
    content = jpeg_with_xmp(XMP_PARIS, gps_exif())
    written = jpeg_with_position(content, SYDNEY)
    assert position_traces(content) == ("exif", "xmp")
    assert position_traces(written) == ("exif",)
    assert gps_position(written) == pytest.approx((-33.856784, 151.215297), abs=1e-9)
    assert written[written.index(b"\xff\xdb") :] == content[content.index(b"\xff\xdb") :]
    assert b'GPSTimeStamp="2024-06-01"\nd:Title="GPS"' in written
    for gone in (b"48,51", b"2,17", b"35/1"):
        assert gone in content
        assert gone not in written


def test_no_copy_has_two_positions(tmp_path):
    """What is in the photo stays alone, or is replaced wholly: also where it stands in an odd place."""
    photos = tmp_path / "photos"
    photos.mkdir()
    second = segment(0xE1, gps_exif())
    files = {
        "xmp.jpg": jpeg_with_xmp(XMP_PARIS), "geo.jpg": jpeg_with_xmp(XMP_PARIS.replace(b"GPSL", b"L")),
        "two.jpg": JPEG[:2] + segment(0xE1, camera_exif()) + second + JPEG[2:], "gps.png": photo("PNG"),
        "bare.jpg": photo(tags={2: PARIS_TAGS[2], 4: PARIS_TAGS[4]}), "behind.jpg": JPEG + photo(),
    }  # fmt: skip
    for name, content in files.items():
        (photos / name).write_bytes(content)
    run = run_of(photos, tmp_path)
    said = export(ExportOptions(run=str(run), to="copies", output=str(tmp_path / "kept")))
    assert said.startswith("6 copies that keep the position they had; in")
    assert {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir() if path.name in files} == files
    export(ExportOptions(run=str(run), to="copies", output=str(tmp_path / "new"), overwrite_gps=True))
    for name, content in files.items():
        copy = (tmp_path / "new" / name).read_bytes()
        if name in ("xmp.jpg", "bare.jpg"):
            assert position_traces(copy) == ("exif",)
            assert gps_position(copy) == pytest.approx((PLACE["latitude"], PLACE["longitude"]), abs=1e-9)
        else:
            assert copy == content
    assert not list(tmp_path.rglob("*.xmp"))


def test_originals_that_are_gone(tmp_path):
    run = write_run(tmp_path / "run", [answer("a.jpg"), answer("b.jpg")])
    with pytest.raises(
        InputError, match=r"none of 2 originals can be read where .*; put them back, or export sidecars"
    ):
        export(ExportOptions(run=str(run), to="copies"))


def test_hostile_ids_stay_inside(photos, tmp_path):
    names = ["../up.jpg", "/tmp/abs.jpg", "a/../../up2.jpg", "file:///x.jpg", "s3://b/c.jpg"]
    run = write_run(tmp_path / "run", [answer(name, photos / "2024" / "plain.jpg") for name in names])
    before = digests(tmp_path)
    export(ExportOptions(run=str(run), to="copies", output=str(tmp_path / "deep" / "copies")))
    after = {path for path in digests(tmp_path) if path not in before}
    assert len(after) == len(names) + 1
    assert all(path.is_relative_to(tmp_path / "deep" / "copies") for path in after)


def test_the_command(photos, tmp_path, capsys):
    run = run_of(photos, tmp_path)
    assert main(["export", str(run), "--to", "copies", "--max-radius-km", "30", "--overwrite-gps"]) == 0
    assert "copies with the position in their EXIF" in capsys.readouterr().out
    assert main(["export", str(run), "--to", "xmp", "--output", "s3://bucket/x"]) == 2
    assert "written to a local folder" in capsys.readouterr().err
