"""The same images in every form that people have them in, and the ids they must get."""

import csv
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass, field

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geo_ray.data.sources import SourceOptions


@dataclass(frozen=True, kw_only=True)
class Written:
    """Inputs for ``open_sources``, and which image each id means; ``uris`` where they are not the files' own."""

    inputs: list[str]
    names: dict[str, str]  # image_id to the image's name
    options: SourceOptions = field(default_factory=SourceOptions)
    uris: dict[str, str] = field(default_factory=dict)


def small_images(count):
    """Small JPEGs, each different, by names like Flickr's ids."""
    images = {}
    for number in range(count):
        file = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(file, "JPEG")
        images[str(7_000_000_000 + number * 7919)] = file.getvalue()
    return images


def hex_folders(name):
    """Two levels of folders, as MP-16 has them: 5d/02/8700607262.jpg."""
    digest = hashlib.md5(name.encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{name}.jpg"


def yfcc_path(name):
    digest = hashlib.md5(name.encode()).hexdigest()
    return f"{digest[:3]}/{digest[3:6]}/{digest}.jpg"


def parts(names, count):
    """The names in ``count`` parts of about the same size."""
    size = -(-len(names) // count)
    return [names[start : start + size] for start in range(0, len(names), size)]


def write_all(folder, images, base_url=None):
    """Every source by its name. ``base_url`` serves ``folder``: with it, lists of URLs are there too."""
    writers = [
        write_folder,
        write_tables,
        write_tars,
        write_img2dataset,
        write_parquet,
        write_zips,
        write_msgpack,
        write_yfcc,
    ]
    written = {}
    for writer in writers:
        place = folder / writer.__name__.removeprefix("write_")
        place.mkdir(parents=True)
        written |= writer(place, images)
    return written | (write_url_lists(folder, images, base_url) if base_url else {})


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_folder(folder, images):
    for name, content in images.items():
        save(folder / hex_folders(name), content)
    save(folder / "notes.txt", b"not an image")
    save(folder / "00" / "._8700607262.jpg", b"what macOS leaves beside images")
    names = {hex_folders(name): name for name in images}
    return {
        "folder": Written(inputs=[str(folder)], names=names),
        "pattern": Written(inputs=[f"{folder}/*/*/[0-9]*.jpg"], names=names),
    }


def write_tables(folder, images):
    """Manifests of paths: the usual kinds, GeoCLIP's, a plain list, and panoramas of four."""
    for name, content in images.items():
        save(folder / "images" / f"{name}.jpg", content)
    rows = [{"id": name, "path": f"images/{name}.jpg", "lat": "1.5", "lon": "2.5"} for name in images]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (folder / "a.csv").write_text(text.getvalue())
    (folder / "a.tsv.gz").write_bytes(gzip.compress(text.getvalue().replace(",", "\t").encode("utf-8-sig")))
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    (folder / "a.txt").write_text("".join(f"{row['path']}\n" for row in rows))
    (folder / "geoclip.csv").write_text("IMG_FILE,LAT,LON\n" + "".join(f"{name}.jpg,1,2\n" for name in images))
    names = {name: name for name in images}
    return {
        **{
            kind: Written(inputs=[f"{folder}/{kind}"], names=names)
            for kind in ("a.csv", "a.tsv.gz", "a.jsonl", "a.parquet")
        },
        "a.txt": Written(inputs=[f"{folder}/a.txt"], names={f"images/{name}.jpg": name for name in images}),
        "geoclip.csv": Written(
            inputs=[f"{folder}/geoclip.csv"],
            names={f"{name}.jpg": name for name in images},
            options=SourceOptions(image_folder=f"{folder}/images"),
        ),
    }


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_tars(folder, images):
    """WebDataset as osv5m-wds has it, with features beside the images."""
    names = {}
    for number, part in enumerate(parts(list(images), 3)):
        with tarfile.open(folder / f"{number:04d}.tar", "w") as tar:
            for name in part:
                add(tar, f"{name}.dinov2_vitl14_registers.npy", b"numbers")
                add(tar, f"{name}.jpg", images[name])
                add(tar, f"{name}.json", json.dumps({"latitude": 1.5, "id": name}).encode())
                names[f"{number:04d}.tar#{name}"] = name
    return {
        "webdataset": Written(inputs=[str(folder)], names=names),
        "webdataset braces": Written(
            inputs=[f"{folder}/{{0000..0002}}.tar"],
            names={f"{folder}/{image_id}": name for image_id, name in names.items()},
        ),
    }


def write_img2dataset(folder, images):
    """Its webdataset and its parquet output, with one link that was dead."""
    tars, tables = folder / "webdataset", folder / "parquet"
    names, in_tables, uris = {}, {}, {}
    for path in (tars, tables):
        path.mkdir()
    for number, part in enumerate(parts(list(images), 2)):
        keys = {name: f"{number:05d}{place:04d}" for place, name in enumerate(part)}
        dead = f"{number:05d}{len(part):04d}"
        rows = [
            {"url": f"https://example.com/{name}.jpg", "caption": "", "key": key, "status": "success",
             "error_message": None, "width": 8, "height": 6, "original_width": 8, "original_height": 6, "exif": "{}",
             "sha256": hashlib.sha256(images[name]).hexdigest()}
            for name, key in keys.items()
        ]  # fmt: skip
        failed = {"status": "failed_to_download", "error_message": "HTTP Error 404: Not Found", "width": None}
        rows.append(rows[0] | failed | {"url": "https://example.com/dead.jpg", "key": dead, "sha256": None})
        pq.write_table(pa.Table.from_pylist(rows), tars / f"{number:05d}.parquet")
        (tars / f"{number:05d}_stats.json").write_text(json.dumps({"count": len(rows), "successes": len(part)}))
        with tarfile.open(tars / f"{number:05d}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for name, key in keys.items():
                add(tar, f"{key}.jpg", images[name])
                add(tar, f"{key}.json", json.dumps(rows[0]).encode())
                add(tar, f"{key}.txt", b"caption")
        contents = [*(images[name] for name in part), None]
        table = pa.Table.from_pylist(rows).append_column("jpg", pa.array(contents, pa.binary()))
        pq.write_table(table, tables / f"{number:05d}.parquet", row_group_size=100)
        names |= {f"{number:05d}.tar#{key}": name for name, key in keys.items()}
        in_tables |= {f"{number:05d}.parquet#{key}": name for name, key in keys.items()}
        in_tables[f"{number:05d}.parquet#{dead}"] = None
        for name, key in keys.items():
            uris |= dict.fromkeys(
                (f"{number:05d}.tar#{key}", f"{number:05d}.parquet#{key}"), f"https://example.com/{name}.jpg"
            )
    return {
        "img2dataset": Written(inputs=[str(tars)], names=names, uris=uris),
        "img2dataset parquet": Written(inputs=[str(tables)], names=in_tables, uris=uris),
    }


def write_parquet(folder, images):
    """Hugging Face's struct of bytes and path with and without paths, and a plain binary column with ids."""
    places = {kind: folder / kind for kind in ("paths", "nothing", "binary")}
    names = {kind: {} for kind in places}
    for place in places.values():
        place.mkdir()
    for number, part in enumerate(parts(list(images), 2)):
        file = f"train-{number:05d}-of-00002.parquet"
        rows = {"lat": [1.5] * len(part), "lng": [2.5] * len(part), "country_code": ["CH"] * len(part)}
        for kind in ("paths", "nothing"):
            structs = [{"bytes": images[name], "path": f"{name}.jpg" if kind == "paths" else None} for name in part]
            image = pa.array(structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
            table = pa.table({"image": image} | rows)
            pq.write_table(table, places[kind] / file, row_group_size=100)
        plain = {
            "id": pa.array([int(name) for name in part]),
            "img": pa.array([images[n] for n in part], pa.large_binary()),
        }
        pq.write_table(pa.table(plain | rows), places["binary"] / file, row_group_size=64)
        for row, name in enumerate(part):
            names["paths"][f"{file}#{name}.jpg"] = name
            names["nothing"][f"{file}#{row}"] = name
            names["binary"][f"{file}#{name}"] = name
    return {f"parquet {kind}": Written(inputs=[str(place)], names=names[kind]) for kind, place in places.items()}


def write_zips(folder, images):
    """OSV-5M: zips of folders beside a table."""
    names = {}
    (folder / "images" / "test").mkdir(parents=True)
    for number, part in enumerate(parts(list(images), 2)):
        with zipfile.ZipFile(folder / "images" / "test" / f"{number:02d}.zip", "w") as archive:
            archive.writestr(f"{number:02d}/", b"")
            for name in part:
                archive.writestr(f"{number:02d}/{name}.jpg", images[name])
                names[f"images/test/{number:02d}.zip#{number:02d}/{name}.jpg"] = name
    header = "id,latitude,longitude,thumb_original_url,country,sequence,captured_at"
    (folder / "test.csv").write_text(header + "".join(f"\n{name},1,2,https://x,CH,s,1" for name in images))
    return {"zip": Written(inputs=[str(folder)], names=names)}


def write_msgpack(folder, images):
    """GeoEstimation's shards of MP-16."""
    names = {}
    for number, part in enumerate(parts(list(images), 2)):
        with open(folder / f"shard_{number}.msg", "wb") as file:
            for name in part:
                file.write(msgpack.packb({"image": images[name], "id": hex_folders(name)}))
                names[f"shard_{number}.msg#{hex_folders(name)}"] = name
    return {"msgpack": Written(inputs=[str(folder)], names=names)}


def write_yfcc(folder, images):
    """YFCC100M: images by the hash of their names, a table from photo id to hash, and the data set in its last form."""
    for name, content in images.items():
        save(folder / "images" / yfcc_path(name), content)
    hashes = {name: hashlib.md5(name.encode()).hexdigest() for name in images}
    (folder / "yfcc100m_hash").write_text("".join(f"{name}\t{digest}\n" for name, digest in hashes.items()))
    lines = [yfcc_line(name, "http://farm1.staticflickr.com/gone.jpg") for name in images]
    lines = [f"{number}\t{line.replace(chr(9), chr(9) + hashes[name] + chr(9), 1)}"
             for number, (name, line) in enumerate(zip(images, lines, strict=True))]  # fmt: skip
    (folder / "yfcc100m_dataset").write_text("\n".join(lines) + "\n")
    names = {name: name for name in images}
    options = SourceOptions(image_folder=f"{folder}/images")
    return {
        file: Written(inputs=[f"{folder}/{file}"], names=names, options=options)
        for file in ("yfcc100m_hash", "yfcc100m_dataset")
    }


def yfcc_line(name, url, media="0"):
    """A line of yfcc100m_dataset; its texts are quoted like URLs, but for a stray quotation mark."""
    cells = [
        name, "39019111@N00", 'guck"xzs', "2012-02-16 09:56:37.0", "1331840483", "Canon", "IMG_0520", "", "", "",
        "-81.8", "24.5", "12", "https://www.flickr.com/photos/1/2/", url, "Attribution License",
        "http://creativecommons.org/", "7205", "8", "14739a8a8c", "5b3d6a4b9b", "jpg", media,
    ]  # fmt: skip
    return "\t".join(cells)


def write_url_lists(folder, images, base_url):
    """Lists of the URLs of the images in the folder: MP-16's, YFCC100M's with a video among them, Flickr's."""
    place = folder / "url_lists"
    place.mkdir()
    urls = {name: f"{base_url}/folder/{hex_folders(name)}" for name in images}
    (place / "mp16_urls.csv").write_text("".join(f"{hex_folders(name)},{url}\n" for name, url in urls.items()))
    video = yfcc_line("99", f"{base_url}/video.mp4", media="1")
    lines = [yfcc_line(name, url) for name, url in urls.items()]
    (place / "yfcc100m_dataset").write_text("\n".join([*lines[:1], video, *lines[1:]]) + "\n")
    rows = "".join(f"{name},x,{url},1\n" for name, url in urls.items())
    (place / "flickr.csv").write_text(f"id,owner,url_o,latitude\n{rows}")
    names = {name: name for name in images}
    files = {
        "mp16_urls.csv": {hex_folders(name): name for name in images},
        "yfcc100m_dataset": names,
        "flickr.csv": names,
    }
    return {
        f"urls {file}": Written(inputs=[f"{place}/{file}"], names=ids, uris={i: urls[n] for i, n in ids.items()})
        for file, ids in files.items()
    }
