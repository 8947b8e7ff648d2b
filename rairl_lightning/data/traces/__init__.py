"""Traces that somebody sampled: to rerank, to score, to find the first wrong step in."""

from rairl_lightning.data.traces.base import LabelledSteps, SampledQuestion, StepSource, TraceSource

__all__ = ["LabelledSteps", "SampledQuestion", "StepSource", "TraceSource"]
