"""``rairl plan``: memory and time of a configuration, before anything of it is loaded."""

from __future__ import annotations

import json as text
from typing import Any

DOES_NOT_FIT = 3


def plan(
    setup: Any,  # a Setup; importing its name, even for type checkers alone, makes --help load everything
    /,
    device: str = "auto",
    memory_gb: float | None = None,
    tflops: float | None = None,
    bandwidth_gbs: float | None = None,
    json: bool = False,
) -> int:
    """What `rairl fit` would take, in memory and time, before anything is loaded: config.json is read, no weights.

    Example:
      rairl plan --config configs/gsm8k.yaml --device rtx4090-24gb
      rairl plan --config configs/gsm8k.yaml --device a100-80gb --model.group_size 32
      rairl plan --config configs/gsm8k.yaml --memory_gb 16 --tflops 50 --bandwidth_gbs 500 --json

    Every option of `rairl fit` is accepted, and read as fit reads it. The tables show what is held throughout and the
    peak of each phase; where the peak does not fit, which knobs to turn, in the order of what each saves by itself.
    The exit code is 0 if it fits, 3 if it does not.

    Args:
        setup: what fit would run, in numbers; it comes from the options of fit.
        device: auto (the accelerator here, else this CPU), cpu, rtx3090-24gb, rtx4090-24gb, rtx5090-32gb, t4-16gb,
            l4-24gb, a10g-24gb, l40s-48gb, a100-40gb, a100-80gb, h100-80gb or h200-141gb.
        memory_gb: memory in the place of the device's, in units of 10^9 bytes, > 0.
        tflops: speed of bf16 matrix products in the place of the device's, 10^12 operations a second, > 0.
        bandwidth_gbs: memory bandwidth in the place of the device's, 10^9 bytes a second, > 0.
        json: print one JSON object instead of tables: bytes and seconds.
    """
    from rairl_lightning.planning import chosen_device, memory_plan, savings, time_plan
    from rairl_lightning.planning.report import as_json, show

    target = chosen_device(device, memory_gb, tflops, bandwidth_gbs)
    shape = setup.pair.shape(with_discriminator=setup.learns_reward)
    memory, seconds = memory_plan(setup, target, shape), time_plan(setup, target, shape)
    advice = [] if memory.fits(target) else savings(setup, target)
    if json:
        print(text.dumps(as_json(setup, target, memory, seconds, advice), indent=2))
    else:
        show(setup, target, memory, seconds, advice)
    return 0 if memory.fits(target) else DOES_NOT_FIT
