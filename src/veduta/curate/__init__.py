"""Curate a dataset: find bad photos and copies, move them away, split, and keep decisions.

- `cleaning.clean` finds broken, doubled and mislabelled photos. `quarantine` moves them away.
- `copies.find_copies` finds the copies of a photo, also if it was saved again, cut or turned.
- `splitting.split` splits a dataset so that copies stay together. `splitting.find_leaks` checks a
  split.
- `review_journal` and `review_files` keep the decisions of `veduta review`.
"""
