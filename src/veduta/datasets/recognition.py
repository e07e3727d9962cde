"""Which rows are to be recognised, and by which."""

from __future__ import annotations

from veduta.datasets.dataset import Dataset, as_table
from veduta.datasets.protocol import RetrievalProtocol, retrieval_protocol
from veduta.datasets.split_names import NO_SPLIT
from veduta.errors import DatasetError, readable

__all__ = ["recognition_protocol"]


def recognition_protocol(dataset: Dataset) -> RetrievalProtocol:
    """Return who asks and who answers when photos are to be recognised.

    `query` and `unknown` rows ask, the latter without a label; `gallery` and `distractor` rows
    answer, as for retrieval.

    Raises `DatasetError` when nobody asks, nobody answers or no answer has a label, and for an
    unsplit dataset: confidence is fitted on the gallery's photos, so they cannot be asked about as
    well.
    """
    paths, labels, splits = (dataset.table[name].to_pylist() for name in ("path", "label", "split"))
    if NO_SPLIT in splits or not {"query", "unknown"}.intersection(splits):
        raise DatasetError(
            f"{readable(dataset.root)}: no photo is to be recognised; give rows of labels.csv the "
            "split 'query' (or 'unknown': of none of the labels), or name --queries and --gallery"
        )
    outsiders = [split == "unknown" for split in splits]
    asking = as_table(
        paths,
        [None if out else label for label, out in zip(labels, outsiders, strict=True)],
        ["query" if out else split for split, out in zip(splits, outsiders, strict=True)],
    )
    protocol = retrieval_protocol(Dataset(dataset.root, asking, dataset.problems))
    if (protocol.gallery_codes < 0).all():
        raise DatasetError(
            f"{readable(dataset.root)}: no photo of the gallery has a label, so there is nothing "
            "to recognise; give rows with the split 'gallery' one"
        )
    return protocol
