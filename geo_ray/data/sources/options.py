"""What a user can say about inputs beyond their names."""

from dataclasses import dataclass

from geo_ray.data.fetch.policy import DEFAULT_POLICY, FetchPolicy
from geo_ray.data.sources.rows import ROWS_PER_SHARD


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How inputs are read.

    ``image_column`` and ``id_column`` name columns of tables where their usual names don't do. Paths in a manifest
    start from ``image_folder`` (a folder or prefix; the manifest's own by default), and local ones must lie below
    ``allowed_root`` (``image_folder`` by default); a manifest that lies elsewhere can name no local file at all.
    """

    views_by: str | None = None  # the column of a manifest whose equal values make rows views of one item
    image_column: str | None = None
    id_column: str | None = None
    image_folder: str | None = None
    allowed_root: str | None = None
    fetch: FetchPolicy = DEFAULT_POLICY
    rows_per_shard: int = ROWS_PER_SHARD

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1:
            raise ValueError(f"rows_per_shard={self.rows_per_shard} must be at least 1")
