"""Tuning: many trainings of one recipe, in search of better settings."""
