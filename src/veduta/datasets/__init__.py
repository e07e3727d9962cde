"""Labelled collections and their splits, read from the layouts that people use and publish.

- a folder with `labels.csv`: the columns `path` and `label`, and `split` if there is one;
- a folder of class folders: the first folder under the root is the label;
- a folder of queries and a folder of gallery photos, each with class folders;
- `gnd_*.pkl` of Oxford and Paris, classic and revisited (`open_revisited`);
- the CSV files of Google Landmarks (`veduta.datasets.google_landmarks`).

`open_dataset` turns any of the first three into one Arrow table; `retrieval_protocol` says which
rows ask and which answer, `class_coverage` which classes do.
"""

from veduta.datasets.dataset import SPLITS, Dataset
from veduta.datasets.folders import labels_from_folders
from veduta.datasets.labels_csv import read_labels_csv
from veduta.datasets.opening import open_dataset
from veduta.datasets.protocol import (
    ClassCoverage,
    RetrievalProtocol,
    class_coverage,
    retrieval_protocol,
)
from veduta.datasets.revisited import RevisitedDataset, open_revisited

__all__ = [
    "SPLITS",
    "ClassCoverage",
    "Dataset",
    "RetrievalProtocol",
    "RevisitedDataset",
    "class_coverage",
    "labels_from_folders",
    "open_dataset",
    "open_revisited",
    "read_labels_csv",
    "retrieval_protocol",
]
