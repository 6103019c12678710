"""The predictions of a finished run, a few thousand rows at a time."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geo_ray.data.record.ledger import MANIFEST, PREDICTIONS, RUN, SUCCESS, SUFFIX
from geo_ray.data.record.storage import open_store
from geo_ray.data.sources.containers import open_binary
from geo_ray.errors import InputError, OutputError
from geo_ray.remote_files import reason, redacted, remote_errors

ROWS_PER_BATCH = 4096
NEEDED = ("image_id", "uri", "latitude", "longitude", "radius_km_90", "problem")


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files of predictions below ``uri``, and the fingerprint of the run that wrote them ("" where unknown)."""

    uri: str
    names: tuple[str, ...]
    fingerprint: str
    schema: pa.Schema
    left_out: str = ""  # the problem of rows that aren't asked for

    @property
    def scalars(self) -> list[str]:
        """The columns that hold one number or text a row: all but the geometry and the candidates."""
        return [field.name for field in self.schema
                if not (pa.types.is_nested(field.type) or pa.types.is_binary(field.type))]  # fmt: skip

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, file by file; raises ``InputError`` where one can't be read."""
        for name in self.names:
            with _opened(self.uri, name) as file:
                for group in range(file.num_row_groups):  # one by one, or pyarrow reads the whole file ahead
                    for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=[group], columns=list(columns)):
                        yield batch.filter(pc.not_equal(batch["problem"], self.left_out)) if self.left_out else batch


def open_run(uri: str) -> RunFiles:
    """The predictions in the output folder of ``geo-ray geotag``, local or remote.

    Raises ``InputError`` where there is no such run, it isn't finished, or holds features in place of answers.
    """
    shown = redacted(uri)
    try:
        store = open_store(uri)
        finished, manifest, key = store.read(SUCCESS) is not None, store.read(MANIFEST), store.read(RUN)
        found = [name for name in store.names(PREDICTIONS) if name.endswith(SUFFIX)]
    except OutputError as error:
        why = reason(error.__cause__, uri) if isinstance(error.__cause__, Exception) else ""
        raise InputError(f"{shown!r} can't be read ({why}); check the address and your credentials") from error
    if not found:
        raise InputError(f"{shown!r} holds no predictions; name the --output of geo-ray geotag")
    if not finished:
        raise InputError(f"the run in {shown!r} is not finished; complete it with geo-ray geotag --resume")
    names = json.loads(manifest or b"{}").get("files") or found  # what else lies beside the run's own files is not its
    with _opened(uri, names[0]) as file:
        schema = file.schema_arrow
    if missing := [name for name in NEEDED if name not in schema.names]:
        raise InputError(f"{shown!r} holds no answers: its files lack {', '.join(missing)}")
    return RunFiles(
        uri=uri, names=tuple(names), fingerprint=json.loads(key or b"{}").get("fingerprint", ""), schema=schema
    )


@contextmanager
def _opened(uri: str, name: str) -> Iterator[pq.ParquetFile]:
    place = f"{uri.rstrip('/')}/{PREDICTIONS}/{name}"

    def unreadable(error: Exception) -> InputError:
        return InputError(f"{redacted(place)!r} can't be read ({reason(error, uri)}); run geotag again")

    with remote_errors(unreadable), open_binary(place) as opened, closing(pq.ParquetFile(opened)) as file:
        yield file
