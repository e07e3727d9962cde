"""The training loop: losses, schedule, checkpoints and scores."""
