"""Curation of a dataset: what is broken, doubled or wrong goes out; splits keep copies together.

- `cleaning.clean` finds what is odd about the photos of a dataset; `quarantine` moves it aside.
- `copies.find_copies` finds the photos that are one photo, however it was saved, cut or turned.
- `splitting.split` splits a dataset so that copies stay together; `splitting.find_leaks` checks a
  split.
- `review_journal` and `review_files` keep what a person decided in `veduta review`.
"""
