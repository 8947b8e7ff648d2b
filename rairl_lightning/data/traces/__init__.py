"""Traces that somebody sampled: to rerank, to score, to find the first wrong step in.

| class | what a row is |
|---|---|
| TraceFile | a question with its N texts, or one text of a question |
| ProcessSteps | a solution in steps, and the first wrong one (ProcessBench) |
| PRM800K | a solution in steps, each rated |
| MRGSM8K | a solution in steps counted from 1, as MR-GSM8K is published |
"""

from rairl_lightning.data.traces.base import LabelledSteps, SampledQuestion, StepSource, TraceSource
from rairl_lightning.data.traces.layouts import AsIs, Layout, Tagged
from rairl_lightning.data.traces.process import MRGSM8K, PRM800K, ProcessSteps
from rairl_lightning.data.traces.trace_file import TraceFile

__all__ = [
    "MRGSM8K",
    "PRM800K",
    "AsIs",
    "LabelledSteps",
    "Layout",
    "ProcessSteps",
    "SampledQuestion",
    "StepSource",
    "Tagged",
    "TraceFile",
    "TraceSource",
]
