"""Reading a trace in windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rairl_lightning.evaluation.long_traces import Window
from rairl_lightning.types import TokenBatch, TraceIds


def windowed(
    read: Callable[[TokenBatch], Tensor], trace: TraceIds, windows: Sequence[Window], pad_id: int, device: torch.device
) -> Tensor:
    """What a model says of a trace that is read in windows.

    Args:
        read: ``[N, T, …]`` of N traces; column t belongs to token t.
        trace: prompt and completion.
        windows: that keep each completion token once, in order; at least one.
        pad_id: of the codec.
        device: of the model.

    Returns:
        ``[1, T, …]``, the prompt's from the first window.
    """
    prompt = len(trace.prompt_ids)
    cut = [_cut(trace, window) for window in windows]
    outputs = read(TokenBatch.from_traces(cut, pad_id).to(device))
    parts = [outputs[:1, :prompt]]
    for row, window in enumerate(windows):
        first = prompt + window.keep - window.start
        parts.append(outputs[row : row + 1, first : prompt + window.stop - window.start])
    return torch.cat(parts, dim=1)


def _cut(trace: TraceIds, window: Window) -> TraceIds:
    part = slice(window.start, window.stop)
    return TraceIds(trace.prompt_ids, trace.completion_ids[part], trace.step_ends[part], trace.char_offsets[part])
