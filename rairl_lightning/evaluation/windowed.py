"""Reading a trace in windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rairl_lightning.evaluation.long_traces import Window
from rairl_lightning.models.discriminator import Discriminator
from rairl_lightning.types import TokenBatch, TraceIds


def windowed_outputs(
    discriminator: Discriminator, trace: TraceIds, windows: Sequence[Window], pad_id: int, max_tokens: int
) -> Tensor:
    """The head's outputs on a trace that is read in windows.

    Args:
        discriminator: in evaluation mode.
        trace: prompt and completion.
        windows: that keep each completion token once, in order; at least one.
        pad_id: of the codec.
        max_tokens: padded tokens in the model at once.

    Returns:
        ``[1, T, …]``, the prompt's from the first window.
    """
    prompt = len(trace.prompt_ids)
    cut = [_cut(trace, window) for window in windows]
    tokens = TokenBatch.from_traces(cut, pad_id).to(discriminator.device)
    outputs = discriminator.score(tokens, max_tokens)
    parts = [outputs[:1, :prompt]]
    for row, window in enumerate(windows):
        first = prompt + window.keep - window.start
        parts.append(outputs[row : row + 1, first : prompt + window.stop - window.start])
    return torch.cat(parts, dim=1)


def _cut(trace: TraceIds, window: Window) -> TraceIds:
    part = slice(window.start, window.stop)
    return TraceIds(trace.prompt_ids, trace.completion_ids[part], trace.step_ends[part], trace.char_offsets[part])
