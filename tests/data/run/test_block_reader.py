"""From shards to blocks: their boundaries, what is skipped, where images are decoded, and what can't be read."""

import dataclasses
import errno
import io
import pickle
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from botocore.exceptions import EndpointConnectionError
from PIL import Image

from geo_ray.data.record.blocks import Block, Done
from geo_ray.data.run import block_reader
from geo_ray.data.run.block_reader import MAX_PIXEL_BYTES, MAX_ROWS, READ_TRIES, BlockReader, rows_per_block
from geo_ray.data.run.coordinator import Announcer
from geo_ray.data.run.deaths import READS, Told
from geo_ray.data.run.transport import unpacked
from geo_ray.data.sources import Input, Row, Shard, SourceOptions, open_sources, reading
from geo_ray.models.bundle import open_bundle
from geo_ray.pipeline.graph import graph_of
from geo_ray.pipeline.stage import Runtime
from tests.crops import jpeg_crops, write_crops


@dataclass(frozen=True, kw_only=True)
class Listed(Shard):
    """A shard of these images; reading it fails at some rows: ``failures`` holds the number of the row for each try."""

    images: tuple[bytes | None, ...]
    failures: list[int | None] = field(default_factory=list)
    error: Exception = field(default_factory=lambda: OSError(errno.EIO, "the network is down"))

    @property
    def identity(self):
        return (len(self.images),)

    def rows(self):
        fails_at = self.failures.pop(0) if self.failures else None
        for number, content in enumerate(self.images):
            if number == fails_at:
                raise self.error
            yield Row(f"{self.label}/{number}", ("",), (content,), "" if content is not None else "fetch_failed")
        if fails_at == len(self.images):
            raise self.error


def shard_of(count, **settings):
    return Listed(label="a", images=tuple(b"%d" % number for number in range(count)), **settings)


def reader(**settings):
    return BlockReader(**({"head": b"", "num_views": 1, "rows_per_block": 4, "rows_per_batch": 3} | settings))


def numbers(images):
    """The numbers of the rows that a block holds, in order."""
    return [int(image_id.rpartition("/")[2]) for _, batch in images.batches for image_id in batch["image_id"]]


def blocks_of(shard, done=frozenset(), **settings):
    """Number and rows of each block that is read, and whether it is the last."""
    read = list(reader(**settings).blocks(shard, frozenset(done)))
    assert all(images.block.shard_id == shard.shard_id and not images.failure for images in read)
    return [(images.block.number, numbers(images), images.block.last) for images in read]


@pytest.fixture
def naps(monkeypatch):
    """The seconds that were to be slept."""
    slept = []
    monkeypatch.setattr(block_reader.time, "sleep", slept.append)
    return slept


def test_blocks_are_cut_by_counting():
    assert blocks_of(shard_of(10)) == [
        (0, [0, 1, 2, 3], False),
        (1, [4, 5, 6, 7], False),
        (2, [8, 9], True),
    ]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("rows_per_batch", [1, 3, 100])
def test_every_row_is_in_one_block_and_the_last_one_says_so(count, rows_per_batch):
    blocks = blocks_of(shard_of(count), rows_per_batch=rows_per_batch)
    assert [number for number, _, _ in blocks] == list(range(-(-count // 4)))
    assert [row for _, rows, _ in blocks for row in rows] == list(range(count))
    assert [last for _, _, last in blocks] == [False] * (len(blocks) - 1) + [True]


def test_an_empty_shard_is_one_empty_last_block():
    assert blocks_of(shard_of(0)) == [(0, [], True)]


def test_batches_within_a_block_are_no_larger_than_asked_for():
    (images,) = reader(rows_per_block=7).blocks(shard_of(7), frozenset())
    assert [(decoded, len(batch["image_id"])) for decoded, batch in images.batches] == [
        (False, 3),
        (False, 3),
        (False, 1),
    ]
    assert images.batches[0][1]["bytes"].tolist() == [b"0", b"1", b"2"]
    assert images.seconds["read"] >= 0


@pytest.mark.parametrize("done", [{0}, {1}, {2}, {0, 2}, {1, 2}, {0, 1, 2}])
def test_blocks_that_are_done_are_left_out_and_change_no_other(done):
    whole = blocks_of(shard_of(10))
    assert blocks_of(shard_of(10), done) == [block for block in whole if block[0] not in done]


@pytest.mark.parametrize("fails_at", [0, 2, 5, 10])
def test_a_shard_that_can_be_read_the_second_time_gives_each_block_once(naps, fails_at):
    assert blocks_of(shard_of(10, failures=[fails_at])) == blocks_of(shard_of(10))
    assert len(naps) == 1


def test_what_is_read_before_each_failure_counts(naps):
    assert blocks_of(shard_of(10, failures=[6, 9])) == blocks_of(shard_of(10))
    assert naps == sorted(naps)
    assert len(naps) == 2


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "the network\nis down"), EndpointConnectionError(endpoint_url="http://the-network-is-down")],
)
def test_a_shard_that_cannot_be_read_says_why_after_what_could(naps, error):
    shard = shard_of(10, failures=[6] * 9, error=error)
    first, last = reader().blocks(shard, frozenset())
    assert (first.block, numbers(first)) == (Block(shard.shard_id, 0, last=False), [0, 1, 2, 3])
    assert last.block.shard_id == shard.shard_id
    assert last.failure.startswith("a: ")
    assert "network" in last.failure
    assert "\n" not in last.failure
    assert not last.batches
    assert len(naps) == READ_TRIES - 1
    assert len(shard.failures) == 9 - READ_TRIES


def test_files_of_blocks_that_are_done_are_not_read(tmp_path, monkeypatch):
    read, read_file = [], reading._read_local
    monkeypatch.setattr(reading, "_read_local", lambda path: [read.append(path), read_file(path)][1])
    inputs = [Input(image_id=str(n), uri=f"{tmp_path}/{n}") for n in range(18)]
    for item in inputs:
        (tmp_path / item.image_id).write_bytes(item.image_id.encode())
    shard = reading.FilesShard(label="files", inputs=tuple(inputs), num_rows=18)
    blocks = list(reader().blocks(shard, frozenset({0, 2, 3})))  # of four rows each
    assert [(images.block.number, images.block.last) for images in blocks] == [(1, False), (4, True)]
    assert [c for images in blocks for _, batch in images.batches for c in batch["bytes"]] == [
        str(n).encode() for n in (4, 5, 6, 7, 16, 17)
    ]
    assert sorted(read) == sorted(f"{tmp_path}/{n}" for n in (4, 5, 6, 7, 16, 17))


def test_a_mistake_of_our_own_is_no_matter_of_trying_again(naps):
    shard = SimpleNamespace(shard_id="0" * 20, label="none", rows_but=lambda skip: None)
    with pytest.raises(TypeError):
        list(reader().blocks(shard, frozenset()))
    assert naps == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), TypeError("from the depths"), KeyError("Contents")])
def test_what_a_library_raises_is_tried_again_whatever_it_is(naps, error):
    assert len(list(reader().blocks(shard_of(9, failures=[1], error=error), frozenset()))) == 3
    assert len(naps) == 1


@pytest.fixture(scope="module")
def graphs():
    """The graph of the bundle that ships, cut after decoding."""
    return graph_of(open_bundle("earth-tiny"), None, 1, "float32").split_at_pixels()


def answers(graphs, images):
    """The answers of a block, as a worker gives them."""
    head, tail = (graph.build(Runtime()) for graph in graphs)
    batches = [tail(batch if decoded else head(batch)) for decoded, batch in images.batches]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def same(ours, theirs):
    """Whether two blocks' answers are the same: numbers within 1e-9."""
    numeric = [name for name in theirs if theirs[name].dtype.kind == "f"]
    assert numeric
    for name in numeric:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-9)
    return all(ours[name].tolist() == theirs[name].tolist() for name in ("image_id", "cell_id", "problem"))


@pytest.fixture(scope="module")
def photos():
    """Crops, enlarged so that they are worth decoding early, with what can't be decoded among them."""
    large = []
    for content in jpeg_crops(6):
        file = io.BytesIO()
        Image.open(io.BytesIO(content)).resize((600, 600)).save(file, "PNG")
        large.append(file.getvalue())
    return (*large[:4], b"no image", None, *large[4:])


def read_one(photos, graphs, **settings):
    head = {"head": pickle.dumps(graphs[0]), "rows_per_block": 100}
    (images,) = reader(**head, **settings).blocks(Listed(label="photos", images=photos), frozenset())
    return images


def test_images_decoded_by_the_reader_get_the_same_answers(photos, graphs):
    raw = read_one(photos, graphs)
    apart = read_one(photos, graphs, max_raw_bytes=0)
    assert [decoded for decoded, _ in raw.batches] == [False, False, False]
    assert all(decoded for decoded, _ in apart.batches)
    assert all("bytes" not in batch for _, batch in apart.batches)
    assert apart.seconds["Decode"] > 0
    expected = answers(graphs, raw)
    assert expected["problem"].tolist() == ["", "", "", "", "undecodable", "fetch_failed", "", ""]
    assert same(answers(graphs, apart), expected)


def test_of_large_files_pixels_travel(photos, graphs):
    expected = answers(graphs, read_one(photos, graphs))
    size = sum(len(content) for content in photos if content is not None)
    images = read_one(photos, graphs, max_raw_bytes=size // 2)
    assert any(decoded for decoded, _ in images.batches)
    held = sum(len(c) for decoded, batch in images.batches if not decoded for c in batch["bytes"] if c is not None)
    assert held <= size // 2
    assert same(answers(graphs, images), expected)


@pytest.mark.parametrize("max_raw_bytes", [1, 2**30])
def test_a_block_travels_pickled(photos, graphs, max_raw_bytes):
    images = read_one(photos, graphs, max_raw_bytes=max_raw_bytes)
    assert {decoded for decoded, _ in images.batches} == {max_raw_bytes == 1}
    table = block_reader.packed("images", images)
    assert len(table) == 1
    again = unpacked(table)
    assert dataclasses.replace(again, batches=()) == dataclasses.replace(images, batches=())
    assert same(answers(graphs, again), answers(graphs, images))


def test_shards_of_a_folder_are_read_like_any(tmp_path):
    paths = write_crops(tmp_path, 9)
    (shard,) = open_sources([str(tmp_path)]).shards()
    read = list(reader().blocks(shard, frozenset()))
    contents = [content for images in read for _, batch in images.batches for content in batch["bytes"]]
    assert contents == [path.read_bytes() for path in paths]
    assert [images.block.last for images in read] == [False, False, True]


@pytest.mark.parametrize(
    ("pixel_bytes", "micro_batch", "num_rows", "expected"),
    [
        (1, 1, None, MAX_ROWS),
        (MAX_PIXEL_BYTES, 1, None, 1),
        (10 * MAX_PIXEL_BYTES, 1, None, 1),
        (MAX_PIXEL_BYTES // 100, 1, None, 100),
        (1, 1, 0, 16),
        (1, 1, 320, 20),
        (1, 1, 10**6, MAX_ROWS),
        (MAX_PIXEL_BYTES // 10, 1, 10**6, 10),
        (MAX_PIXEL_BYTES // 10, 1, 1, 10),
        (1, 32, None, MAX_ROWS),
        (MAX_PIXEL_BYTES // 100, 32, None, 96),
        (MAX_PIXEL_BYTES // 100, 64, 10**6, 64),
        (1, 16, 700, 32),
        (1, 64, 700, 43),
    ],
)
def test_rows_of_a_block(pixel_bytes, micro_batch, num_rows, expected):
    assert rows_per_block(pixel_bytes, micro_batch, num_rows) == expected


class Board:
    """A coordinator in this process: what was reported, and when it says to stop."""

    def __init__(self, stop_after=None):
        self.reported, self.complete, self.stop_after = [], False, stop_after
        self.begin = self.report = self
        self.leave_out = SimpleNamespace(remote=lambda shard_id, counts: None)
        self.remote = self._told

    def _told(self, shards=(), complete=False):
        self.reported += [shard_id for shard_id, _ in shards]
        self.complete = complete
        return self.stop_after is None or len(self.reported) < self.stop_after


def listed(monkeypatch, count, done=(), stop_after=None):
    """What a listing of so many shards hands on: labels of the shards of each row; and the coordinator."""
    shards = [dataclasses.replace(shard_of(3), label=str(number)) for number in range(count)]
    monkeypatch.setattr(block_reader.ray, "get", lambda value: value)
    monkeypatch.setattr(
        block_reader, "open_sources", lambda inputs, options: SimpleNamespace(shards=lambda: iter(shards), left_out={})
    )
    whole = Done([Block(shards[number].shard_id, 0, last=True) for number in done])
    board = Board(stop_after)
    rows = block_reader.list_shards(pa.table({}), (), SourceOptions(), whole, board)
    return [[shard.label for shard, _ in unpacked(row)] for row in rows], board


def test_a_short_listing_hands_on_single_shards(monkeypatch):
    rows, board = listed(monkeypatch, 37, done=(0, 5, 36))
    assert rows == [[str(number)] for number in range(37) if number not in (0, 5, 36)]
    assert len(board.reported) == 37
    assert board.complete


def test_a_long_listing_hands_on_several_shards_at_a_time(monkeypatch):
    rows, board = listed(monkeypatch, 1003, done=range(300, 310))
    assert [label for row in rows for label in row] == [str(n) for n in range(1003) if not 300 <= n < 310]
    assert {len(row) for row in rows[: block_reader.SHARDS_ALONE]} == {1}
    assert max(map(len, rows)) == block_reader.MAX_SHARDS_PER_TASK
    assert len(rows) < block_reader.SHARDS_ALONE + 1003 // 6
    assert len(board.reported) == 1003


def test_a_listing_ends_when_the_run_is_to_end(monkeypatch):
    rows, board = listed(monkeypatch, 1000, stop_after=40)
    assert len(rows) == 32  # of the last report, nothing is begun
    assert not board.complete


@dataclass(frozen=True, kw_only=True)
class Teller(Announcer):
    """Tells a reading task of a block by its number, and keeps what it said."""

    coordinator: object = None
    told: dict[int, Told] = field(default_factory=dict)
    said: list[object] = field(default_factory=list)

    def begin(self, attempt):
        self.said.append((attempt.act, attempt.number, attempt.span, attempt.image_id))
        return self.told.get(attempt.number, Told())

    def end(self, attempt):
        self.said.append("end")


def test_a_block_is_announced_once_before_it_is_read():
    teller = Teller()
    assert len(list(reader().blocks(shard_of(6), frozenset({0}), teller))) == 1
    assert teller.said == [("reading", 0, (0, 0), ""), "end", ("reading", 1, (0, 0), ""), "end"]


def test_nothing_is_read_when_the_run_is_to_end():
    (images,) = reader().blocks(shard_of(10), frozenset(), Teller(told={1: Told(stop=True)}))
    assert images.block.number == 0


def test_a_shard_whose_readers_die_is_one_that_cannot_be_read():
    good, failed = reader().blocks(shard_of(10), frozenset(), Teller(told={1: Told(num_read=READS)}))
    assert (good.block.number, good.failure) == (0, "")
    assert failed.failure == "a: 3 times the process ended that read it from image 5 on"


def test_where_a_reader_has_died_it_decodes_step_by_step(monkeypatch):
    decoded = []

    def decode(self, batch, seconds):
        decoded.append(batch["image_id"].tolist())
        return batch

    monkeypatch.setattr(BlockReader, "_decode", decode)
    teller = Teller(told={0: Told(num_read=1, died=((1, 3), (1, 2), (1, 2)))})
    (images,) = reader(max_raw_bytes=0, rows_per_block=5).blocks(shard_of(5), frozenset(), teller)
    assert numbers(images) == [0, 1, 2, 3, 4]
    problems = [problem for _, batch in images.batches for problem in batch["problem"]]
    assert problems == ["", "kills_worker", "", "", ""]
    assert all(is_decoded for is_decoded, _ in images.batches)
    assert [said for said in teller.said if said[0] == "decoding early"] == [
        ("decoding early", 0, (number, number + 1), f"a/{number}") for number in range(5)
    ]  # fmt: skip
    assert [said[2] for said in teller.said if said[0] == "reading"] == [(0, 0), *((row, row) for row in range(1, 6))]


def test_a_reading_task_reads_all_of_its_shards(monkeypatch):
    monkeypatch.setattr(block_reader, "Announcer", lambda coordinator: Teller())
    group = [(shard_of(6), frozenset()), (shard_of(5), frozenset({0}))]
    rows = block_reader.read_blocks(block_reader.packed("shards", group), reader(), None)
    blocks = [unpacked(row).block for row in rows]
    assert [(block.shard_id, block.number) for block in blocks] == [
        (group[0][0].shard_id, 0), (group[0][0].shard_id, 1), (group[1][0].shard_id, 1)
    ]  # fmt: skip
