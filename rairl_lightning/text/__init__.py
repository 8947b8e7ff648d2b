"""Strings only: the trace layout, steps, answers, perturbations and the arithmetic they need."""
