"""A first try of Veduta: sample photos with a known answer, or a folder of the user's own."""

from veduta.demo.sample_photos import SUBJECTS, DemoPhotos, Subject, rephotograph, write_photos
from veduta.demo.searches import (
    Answer,
    build_index,
    demo_page,
    search_own_photos,
    search_samples,
)

__all__ = [
    "SUBJECTS",
    "Answer",
    "DemoPhotos",
    "Subject",
    "build_index",
    "demo_page",
    "rephotograph",
    "search_own_photos",
    "search_samples",
    "write_photos",
]
