"""Labelled collections and their splits, read from the layouts that people use and publish.

- a folder with `labels.csv`, or any CSV file of photos and labels;
- a folder of class folders: the first folder under the root is the label;
- a folder of splits (`train` and `test`, `queries` and `database`), each with class folders;
- a folder of queries and a folder of gallery photos, each with class folders;
- `gnd_*.pkl` of Oxford and Paris, classic and revisited (`open_revisited`);
- the CSV files of Google Landmarks (`veduta.datasets.google_landmarks`).

`read_dataset` reads the first four, for every command. `open_dataset` does the same for an
evaluation. `retrieval_protocol` says which rows are queries and which are the gallery, and
`class_coverage` which classes have photos on both sides.
"""

from veduta.datasets.dataset import Dataset
from veduta.datasets.folders import labels_from_folders
from veduta.datasets.labels_csv import LabelsFile
from veduta.datasets.protocol import (
    ClassCoverage,
    RetrievalProtocol,
    class_coverage,
    retrieval_protocol,
)
from veduta.datasets.reading import open_dataset, read_dataset
from veduta.datasets.revisited import RevisitedDataset, open_revisited
from veduta.datasets.split_names import SPLITS

__all__ = [
    "SPLITS",
    "ClassCoverage",
    "Dataset",
    "LabelsFile",
    "RetrievalProtocol",
    "RevisitedDataset",
    "class_coverage",
    "labels_from_folders",
    "open_dataset",
    "open_revisited",
    "read_dataset",
    "retrieval_protocol",
]
