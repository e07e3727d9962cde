"""Measurements of Veduta against other tools: `python -m benchmarks` runs them all."""
