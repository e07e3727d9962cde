"""Learning from one's own photos: recipes, networks, training, tuning, and what a run leaves.

The only room that needs torch (`pip install 'veduta[train]'`); reading a recipe does not.
"""
