"""The data of a training run: the splits of a dataset, decoded photos, and batches."""
