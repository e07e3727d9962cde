"""The hits of one query, as a list that other tools can read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from veduta.errors import QueryError, readable
from veduta.photos.orientation import UPRIGHT, Orientation
from veduta.search.hit import Hit

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Hits"]


class Hits(list[Hit]):
    """The hits of one query, best first. It is a list of `Hit`.

    Attributes:
        orientation: how the query was turned to be compared, also if there are no hits.
    """

    def __init__(self, hits: Iterable[Hit] = (), orientation: Orientation = UPRIGHT) -> None:
        """Take the hits of a query in an orientation."""
        super().__init__(hits)
        self.orientation = orientation

    def as_json(self) -> list[dict[str, Any]]:
        """Return the hits as JSON types."""
        return [hit.as_json() for hit in self]

    def to_arrow(self) -> pa.Table:
        r"""Return the hits as an Arrow table.

        Returns:
            One row a hit, best first. Columns: `rank` (int64, from 1), `id` (int64), `path`
            (string; bytes that are not UTF-8 are escaped as `\xNN`), `label` (string), `score`
            and `similarity` (float64), `score_kind` (string), `width` and `height` (int64,
            pixels), `taken` (timestamp in seconds). Of the evidence: `verdict`, `reason`, `model`
            (string), `probability`, `spread` (float64), `inliers`, `matches` (int64), `found_in`
            (list of int64: x, y, width, height). `copies` (list of strings) has the paths of folded
            copies, `copy_of` (string) "query" or the path of the hit that a marked copy is a copy
            of, `orientation` (string) the name of how the query was turned. A value that is not
            known is null.
        """
        import pyarrow as pa

        schema = pa.schema(
            [
                ("rank", pa.int64()),
                ("id", pa.int64()),
                ("path", pa.string()),
                ("label", pa.string()),
                ("score", pa.float64()),
                ("score_kind", pa.string()),
                ("similarity", pa.float64()),
                ("width", pa.int64()),
                ("height", pa.int64()),
                ("taken", pa.timestamp("s")),
                ("verdict", pa.string()),
                ("reason", pa.string()),
                ("probability", pa.float64()),
                ("inliers", pa.int64()),
                ("matches", pa.int64()),
                ("model", pa.string()),
                ("spread", pa.float64()),
                ("found_in", pa.list_(pa.int64())),
                ("copies", pa.list_(pa.string())),
                ("copy_of", pa.string()),
                ("orientation", pa.string()),
            ]
        )
        rows = []
        for rank, hit in enumerate(self, 1):
            row: dict[str, Any] = {
                name: getattr(source, name)
                for source in (hit, hit.evidence)
                if source is not None
                for name in schema.names
                if hasattr(source, name)
            }
            copies = None if hit.copies is None else [readable(path) for path in hit.copies]
            copy_of = None if hit.copy_of is None else readable(hit.copy_of)
            row |= {"rank": rank, "path": readable(hit.path), "copies": copies, "copy_of": copy_of}
            rows.append(row | {"orientation": hit.orientation.name})
        return pa.Table.from_pylist(rows, schema=schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return the hits as a pandas data frame with the columns of `to_arrow`.

        Raises:
            QueryError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: F401 - Arrow needs it
        except ImportError as error:
            raise QueryError(
                "pandas is not installed. Install it with `pip install pandas`, or use "
                "`hits.to_arrow()`."
            ) from error
        return self.to_arrow().to_pandas()
