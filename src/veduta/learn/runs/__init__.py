"""Runs: what one training reads, and the folder that it writes."""
