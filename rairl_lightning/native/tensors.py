"""Which tensors compiled code may be given: it reads addresses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OWN = (Tensor, nn.Parameter)
"""Classes whose numbers lie in memory as they say; others are for their own operators."""


def plain(*tensors: Tensor) -> bool:
    """Whether these are float32, on a CPU, outside of autocast."""
    on_cpu = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    return on_cpu and not torch.is_autocast_enabled("cpu")


def readable(*tensors: Tensor) -> bool:
    """Whether these are :func:`plain` and of torch's own classes; not while torch compiles: it cannot look inside."""
    own = all(type(tensor) in OWN for tensor in tensors)
    return own and plain(*tensors) and not torch.compiler.is_compiling()
