"""The parts of a training step, shared by R-AIRL and its baselines."""
