"""Tables of results: trained recipes and other methods, measured on the same photos."""
