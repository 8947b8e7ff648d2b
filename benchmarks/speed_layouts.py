"""How a matrix may lie in memory and be multiplied on this machine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from rairl_lightning.functional import onednn
from rairl_lightning.native import decoding

Product = Callable[[Tensor], Tensor]


def out_in(weight: Tensor) -> Product:
    """``nn.Linear``'s layout."""
    return lambda x: linear(x, weight)


def in_out(weight: Tensor) -> Product:
    """The transpose in memory."""
    turned = weight.t().contiguous()
    return lambda x: x @ turned


def onednn_plain(weight: Tensor) -> Product:
    """The plain layout, multiplied by oneDNN."""
    return lambda x: onednn.linear(x, weight)


def panels_of_16_bits(weight: Tensor) -> Product:
    """Panels of a matrix of bfloat16 numbers, as most published ones are; the products are float32's."""
    return decoding.PanelLinear(weight.bfloat16().float())


def layouts(device: str) -> dict[str, Callable[[Tensor], Product]]:
    """Ways to lie in memory and to be multiplied that this machine has."""
    common: dict[str, Callable[[Tensor], Product]] = {"out-in": out_in, "in-out": in_out}
    if device == "cpu" and onednn.available():
        common |= {"onednn": onednn_plain, "onednn packed": onednn.PackedLinear}
    if device == "cpu" and decoding.available():
        common |= {"panels of 32 bits": decoding.PanelLinear, "panels of 16 bits": panels_of_16_bits}
    return common


def random_tensor(device: str, *size: int) -> Tensor:
    """Normal; float32 on a CPU, bfloat16 on an accelerator."""
    return torch.randn(*size, device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
