"""What a collection holds: the classes of a labelled one, the places and objects of any.

`describe` counts the classes, reads the photos and looks for copies, before any descriptor is
computed. A `Description` gives its content as JSON. `veduta.explore.description_report` makes its
page and its charts.

`veduta.explore.photo_groups` finds the places and objects of an index without labels.
"""

from veduta.explore.classes import ClassSizes, Imbalance
from veduta.explore.description import Description, describe

__all__ = [
    "ClassSizes",
    "Description",
    "Imbalance",
    "describe",
]
