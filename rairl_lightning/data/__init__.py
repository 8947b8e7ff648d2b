"""Demonstrations, negatives and the replay buffer: what a run learns from."""
