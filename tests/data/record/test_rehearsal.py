"""What a run can't do to its output at its end is known before its first image."""

import pyarrow as pa
import pytest

from geo_ray.data.record.ledger import Ledger
from geo_ray.data.record.prediction_files import Inventory
from geo_ray.data.record.rehearsal import ROOM_FOR_END, check_room, rehearse
from geo_ray.data.record.storage import FolderStore
from geo_ray.errors import OutputError

ROWS = pa.table({"image_id": ["a"], "problem": ["empty"]})
MANIFEST = b'{"num_images": 3}'


class Refusing(FolderStore):
    """A folder that refuses, or does not do, something to what has this in its name."""

    def __init__(self, uri, act, part, silently=False):
        super().__init__(uri)
        self.act, self.part, self.silently = act, part, silently

    def refused(self, act, name):
        if act == self.act and self.part in name and not self.silently:
            raise OutputError(f"output {self.uri!r} can't be written (no right to {act} {name})")
        return act == self.act and self.part in name

    def write(self, name, content):
        return None if self.refused("write", name) else super().write(name, content)

    def read(self, name):
        return None if self.refused("read", name) else super().read(name)

    def delete(self, name):
        return None if self.refused("delete", name) else super().delete(name)


def ledger_that_refuses(folder, *what, **how):
    ledger = Ledger(str(folder))
    ledger.store = Refusing(str(folder), *what, **how)
    return ledger


def test_nothing_is_left_of_it(tmp_path):
    (tmp_path / "manifest.json").write_bytes(b"of before")
    rehearse(Ledger(str(tmp_path)), ROWS, MANIFEST)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_bytes() == b"of before"


@pytest.mark.parametrize("part", ["parts/", "predictions/", "ledger/", "manifest"])
@pytest.mark.parametrize("act", ["write", "delete"])
def test_each_kind_of_file_is_tried(tmp_path, act, part):
    with pytest.raises(OutputError, match=f"no right to {act} {part}"):
        rehearse(ledger_that_refuses(tmp_path, act, part), ROWS, MANIFEST)


def test_what_cannot_be_read_again(tmp_path):
    with pytest.raises(OutputError, match="no right to read parts"):
        rehearse(ledger_that_refuses(tmp_path, "read", "parts/"), ROWS, MANIFEST)


def test_deletions_that_do_nothing_and_say_so_to_nobody(tmp_path):
    with pytest.raises(OutputError, match="can't be deleted there"):
        rehearse(ledger_that_refuses(tmp_path, "delete", "parts/", silently=True), ROWS, MANIFEST)


def test_what_is_left_of_one_that_was_cut_short_goes_with_the_next_run(tmp_path):
    with pytest.raises(OutputError):
        rehearse(ledger_that_refuses(tmp_path, "delete", "ledger/"), ROWS, MANIFEST)
    inventory = Inventory(Ledger(str(tmp_path)))
    assert len(inventory.done) == 1  # of a shard that no input has
    inventory.keep(set())
    assert not [path for name in ("parts", "predictions", "ledger") for path in (tmp_path / name).iterdir()]


@pytest.mark.parametrize(("free", "enough"), [(ROOM_FOR_END + 999, False), (ROOM_FOR_END + 1000, True)])
def test_room_for_what_is_to_be_written(tmp_path, monkeypatch, free, enough):
    monkeypatch.setattr(FolderStore, "room_bytes", lambda self: free)
    ledger = Ledger(str(tmp_path / "new" / "out"))
    if enough:
        check_room(ledger, 1000, "the answers of 3 images")
    else:
        with pytest.raises(OutputError, match="has room for 32 MB, and the answers of 3 images may take 32 MB; make"):
            check_room(ledger, 1000, "the answers of 3 images")


def test_a_folder_that_is_not_there_yet_has_the_room_of_its_disk(tmp_path):
    assert FolderStore(str(tmp_path / "new" / "out")).room_bytes() == FolderStore(str(tmp_path)).room_bytes() > 0
