"""What a labelled collection holds, before anything is computed from it.

`describe` counts its classes, reads its photos and looks for copies; a `Description` prints as
JSON, as a page and as charts.
"""

from veduta.explore.classes import ClassSizes, Imbalance
from veduta.explore.description import Description, describe
from veduta.explore.photos_seen import PhotosSeen, look_at

__all__ = [
    "ClassSizes",
    "Description",
    "Imbalance",
    "PhotosSeen",
    "describe",
    "look_at",
]
