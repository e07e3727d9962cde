"""Attacks on Veduta: `python -m attack` tries to break each promise of docs/reliability.md.

An attack is a module of this package. It has a number of cases, and each case follows from the seed
and its own number, so a case that broke a promise can be run again alone. Needs Linux.
"""
