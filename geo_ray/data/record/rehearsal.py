"""Before the first image, all that the end of a run does to its output is done once, to a file of each kind.

What can't be written, read or deleted, or finds no room, is known then, and not when all images are answered.
"""

import pyarrow as pa

from geo_ray.data.record.blocks import Block
from geo_ray.data.record.entries import ENTRY_SUFFIX
from geo_ray.data.record.ledger import ENTRIES, MANIFEST, PREDICTIONS, SUFFIX, Ledger
from geo_ray.data.record.prediction_files import parquet_bytes, part_of, write_file
from geo_ray.errors import OutputError

BLOCK = Block("0" * 20, 0, last=True)  # of no shard: what is left of it, a run that is resumed takes away
ROOM_FOR_END = 32 * 2**20  # bytes for what is there twice while files are made of parts, and for the record


def rehearse(ledger: Ledger, rows: pa.Table, manifest: bytes) -> None:
    """Write, read and delete a part of these rows, a file of predictions, its entry, and a manifest.

    ``OutputError`` where any of it fails.
    """
    ledger.commit(BLOCK, parquet_bytes(rows))
    entry = write_file(ledger, [part_of(BLOCK)])
    ledger.note(entry)
    trial = f"{MANIFEST}.trial"
    ledger.store.write(trial, manifest)
    for name in (f"{ENTRIES}/{entry.name}{ENTRY_SUFFIX}", f"{PREDICTIONS}/{entry.name}{SUFFIX}", trial):
        ledger.store.delete(name)
    ledger.store.delete_all([part_of(BLOCK).file])
    if BLOCK in ledger.parts():
        raise OutputError(f"output {ledger.output!r}: files can't be deleted there; give the right to, or name another")


def check_room(ledger: Ledger, num_bytes: int, what: str) -> None:
    """Raise ``OutputError`` where an output on a disk has no room for so many bytes more, and for the run's end."""
    room = ledger.store.room_bytes()
    if room is not None and room < num_bytes + ROOM_FOR_END:
        needed, left = (f"{size / 2**20:,.0f} MB" for size in (num_bytes + ROOM_FOR_END, room))
        raise OutputError(
            f"output {ledger.output!r} has room for {left}, and {what} may take {needed}; make room, "
            "or name another --output"
        )
