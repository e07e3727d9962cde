"""The photos of a training run: who learns, who is tested, and the batches they arrive in."""
