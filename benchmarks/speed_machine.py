"""The machine a figure belongs to, its clock and its memory; nothing of ours, so that the other side may use it."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "peft", "lightning")


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Model name of the processor and what of vector instructions torch uses; no name of a host."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"


def machine(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """What a reader needs to compare: processor, cores, threads, accelerator, versions."""
    packages = {name: version(name) for name in PACKAGES}
    accelerator = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "processor": processor(),
        "cores": cores(),
        "threads": threads or torch.get_num_threads(),
        "accelerator": accelerator,
        **packages,
    }


def slug(described: dict[str, Any]) -> str:
    """A file name for a machine.

    >>> slug({"processor": "AMD EPYC (AVX512)", "accelerator": None, "threads": 2})
    'amd-epyc-avx512-2-threads'
    """
    name = described["accelerator"] or f"{described['processor']} {described['threads']} threads"
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def synchronise(device: str) -> None:
    """Wait for what an accelerator still has to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Wall time of one call."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def fastest(work: Callable[[], object], device: str = "cpu", budget: float = 0.3) -> float:
    """Least wall time of two calls, or of as many as fit ``budget`` seconds; one call before is not counted."""
    seconds(work, device)
    taken = [seconds(work, device), seconds(work, device)]
    while sum(taken) < budget:
        taken.append(seconds(work, device))
    return min(taken)


def peak_memory_mb(device: str = "cpu") -> dict[str, float | None]:
    """Most memory of this process so far, in MB (10^6 bytes): resident, and allocated on an accelerator."""
    resident = _resident_high_water()
    on_device = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None
    return {"resident": resident / 1e6, "device": None if on_device is None else on_device / 1e6}


def _resident_high_water() -> float:
    """In bytes. Linux's ``VmHWM`` starts anew with a program; ``ru_maxrss`` may be that of who started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return 1024.0 * int(fields["VmHWM"].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def write_json(path: Path, value: Any) -> None:
    """Write ``value``, readable, making the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def middle(values: Sequence[float]) -> float:
    """Median; the mean of the two in the middle of an even number.

    >>> middle([3.0, 1.0, 2.0]), middle([4.0, 1.0])
    (2.0, 2.5)
    """
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values: Sequence[float]) -> list[float] | None:
    """``[median, lowest, highest]``; None of nothing.

    >>> spread([3.0, 1.0, 2.0])
    [2.0, 1.0, 3.0]
    """
    return [middle(values), min(values), max(values)] if values else None
