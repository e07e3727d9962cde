"""What one would write or use instead of Veduta."""
