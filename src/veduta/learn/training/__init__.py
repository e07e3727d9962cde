"""Training: losses, schedule, the training loop, checkpoints and scores."""
