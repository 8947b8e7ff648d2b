"""Memory and speed of devices, from their makers' data sheets; what this machine has, where it is the device."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch

from rairl_lightning.errors import ConfigError

GB, GIB = 10**9, 2**30
CORE_FLOPS, CPU_BANDWIDTH = 1.5e11, 2.3e10  # measured on two AVX-512 cores, float32; others differ


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        name: as shown.
        memory: bytes.
        flops: of dense bf16 matrix products with float32 accumulation, a second; None if not known.
        bandwidth: of its memory, bytes a second; None if not known.
        runtime: bytes that the driver and the libraries take.
        source: where the figures are from.
    """

    name: str
    memory: int
    flops: float | None
    bandwidth: float | None
    runtime: int
    source: str

    @property
    def on_cpu(self) -> bool:
        """Whether there is no accelerator."""
        return self.name == "cpu"


def _gpu(name: str, gib: float, tflops: float, bandwidth_gbs: float, source: str) -> Device:
    return Device(name, int(gib * GIB), tflops * 1e12, bandwidth_gbs * 1e9, GIB, source)


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _gpu("rtx3090-24gb", 24, 71, 936, "NVIDIA Ampere GA102 whitepaper"),
        _gpu("rtx4090-24gb", 24, 165.2, 1008, "NVIDIA Ada GPU architecture whitepaper"),
        _gpu("rtx5090-32gb", 32, 209.5, 1792, "NVIDIA RTX Blackwell GPU architecture whitepaper"),
        _gpu("t4-16gb", 15, 65, 320, "NVIDIA T4 data sheet; fp16, it has no bf16"),
        _gpu("l4-24gb", 22.5, 121, 300, "NVIDIA L4 data sheet"),
        _gpu("a10g-24gb", 22.5, 70, 600, "NVIDIA A10 data sheet, scaled to the A10G's clocks"),
        _gpu("l40s-48gb", 44.5, 362, 864, "NVIDIA L40S data sheet"),
        _gpu("a100-40gb", 39.5, 312, 1555, "NVIDIA A100 data sheet"),
        _gpu("a100-80gb", 79.2, 312, 2039, "NVIDIA A100 data sheet, SXM"),
        _gpu("h100-80gb", 79.2, 989, 3350, "NVIDIA H100 data sheet, SXM"),
        _gpu("h200-141gb", 139.8, 989, 4800, "NVIDIA H200 data sheet"),
    )
}
"""By name; dense figures (the data sheets' sparse ones are halved), memory as the driver reports it or nominal."""


def chosen_device(
    device: str = "auto",
    memory_gb: float | None = None,
    tflops: float | None = None,
    bandwidth_gbs: float | None = None,
) -> Device:
    """The device to plan for.

    Args:
        device: a name of :data:`DEVICES`, ``cpu`` (this machine's), or ``auto``: the accelerator here, else its CPU.
        memory_gb: memory in its place, in units of 10^9 bytes, > 0.
        tflops: speed of matrix products in its place, 10^12 a second, > 0.
        bandwidth_gbs: memory bandwidth in its place, 10^9 bytes a second, > 0.

    Raises:
        ConfigError: there is no such device, or a figure is not positive.

    >>> chosen_device("rtx4090-24gb", memory_gb=20).memory
    20000000000
    """
    given = {"memory_gb": memory_gb, "tflops": tflops, "bandwidth_gbs": bandwidth_gbs}
    for name, value in given.items():
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"{name} is out of range.", expected="> 0", got=value)
    if device == "auto" and all(value is not None for value in given.values()):
        found = Device("given", 0, None, None, GIB, "")
    else:
        found = _named(device)
    changed = {
        "memory": None if memory_gb is None else int(memory_gb * GB),
        "flops": None if tflops is None else tflops * 1e12,
        "bandwidth": None if bandwidth_gbs is None else bandwidth_gbs * 1e9,
    }
    changed = {key: value for key, value in changed.items() if value is not None}
    if not changed:
        return found
    said = ", ".join(f"{name} {value:g}" for name, value in given.items() if value is not None)
    return replace(found, **changed, source=f"given: {said}" + (f"; else {found.source}" if found.source else ""))  # type: ignore[arg-type]


def _named(device: str) -> Device:
    if device == "auto":
        return _present() if torch.cuda.is_available() else _cpu()
    if device == "cpu":
        return _cpu()
    if device not in DEVICES:
        close = get_close_matches(device.lower(), DEVICES, n=1)
        raise ConfigError(
            f"There is no figure for a device {device!r}.",
            expected=f"auto, cpu, {', '.join(DEVICES)}",
            got=device,
            remedy=f"did you mean {close[0]!r}?" if close else "give --memory_gb, --tflops and --bandwidth_gbs",
        )
    return DEVICES[device]


def _cpu() -> Device:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Device(
        "cpu", memory, cores * CORE_FLOPS, CPU_BANDWIDTH, GIB, f"this machine's memory; {cores} typical cores"
    )


def _present() -> Device:
    """The accelerator here; its speed is known if its name is one of ours."""
    found = torch.cuda.get_device_properties(0)
    words = found.name.lower().replace(" ", "")
    known = [one for name, one in DEVICES.items() if name.partition("-")[0] in words]
    nearest = min(known, key=lambda one: abs(one.memory - found.total_memory), default=None)
    flops, bandwidth = (nearest.flops, nearest.bandwidth) if nearest else (None, None)
    return Device(found.name, found.total_memory, flops, bandwidth, GIB, nearest.source if nearest else "the driver")
