"""Labelled collections and their splits, read from the three layouts that people use.

- a folder with `labels.csv`: the columns `path` and `label`, and `split` if there is one;
- a folder of class folders: the first folder under the root is the label;
- a folder of queries and a folder of gallery photos, each with class folders.

`open_dataset` turns any of them into one Arrow table; `retrieval_protocol` says which rows ask and
which answer.
"""

from veduta.datasets.dataset import SPLITS, Dataset
from veduta.datasets.folders import labels_from_folders
from veduta.datasets.labels_csv import read_labels_csv
from veduta.datasets.opening import open_dataset
from veduta.datasets.protocol import RetrievalProtocol, retrieval_protocol

__all__ = [
    "SPLITS",
    "Dataset",
    "RetrievalProtocol",
    "labels_from_folders",
    "open_dataset",
    "read_labels_csv",
    "retrieval_protocol",
]
