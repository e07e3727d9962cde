"""What a labelled collection holds, before any descriptor is computed.

`describe` counts the classes, reads the photos and looks for copies. A `Description` gives its
content as JSON. `veduta.explore.description_report` makes its page and its charts.
"""

from veduta.explore.classes import ClassSizes, Imbalance
from veduta.explore.description import Description, describe

__all__ = [
    "ClassSizes",
    "Description",
    "Imbalance",
    "describe",
]
