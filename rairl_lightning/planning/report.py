"""A plan as tables in the terminal, or as plain values."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rairl_lightning.planning.advice import Saving
from rairl_lightning.planning.devices import Device
from rairl_lightning.planning.memory import MemoryPlan
from rairl_lightning.planning.setup import Setup
from rairl_lightning.planning.time import DECODING_SHARE, TRAINING_SHARE, TimePlan

ASSUMED = (
    "Weights, adapters, gradients and optimiser states are counted exactly, keys and values without the room kept for "
    "more; activations, logits and work space are an estimate, from what autograd saves on a CPU. Lengths are the "
    "longest allowed. Speed is an estimate: {training:.0%} of the peak in training, {decoding:.0%} of the bandwidth in "
    "decoding, neither measured here."
)


def as_json(
    setup: Setup, device: Device, memory: MemoryPlan, seconds: TimePlan | None, advice: list[Saving]
) -> dict[str, Any]:
    """The plan as plain values: bytes, seconds."""
    return {
        "algorithm": setup.algorithm,
        "device": {"name": device.name, "memory": device.memory, "source": device.source},
        "fits": memory.fits(device),
        "peak": memory.peak,
        "held": memory.held,
        "phases": {name: {"peak": memory.peaks[name], "parts": parts} for name, parts in memory.phases.items()},
        "host": memory.host,
        "seconds_estimate": None
        if seconds is None
        else {"phases": seconds.phases, "round": seconds.round, "run": seconds.run},
        "savings": [{"knob": one.knob, "bytes": one.bytes, "fits": one.fits, "cost": one.cost} for one in advice],
    }


def show(setup: Setup, device: Device, memory: MemoryPlan, seconds: TimePlan | None, advice: list[Saving]) -> None:
    """Print the plan as tables, with its verdict."""
    console = Console()
    source = f" ({device.source})" if device.source else ""
    console.print(f"{setup.algorithm} on {device.name}, {_gb(device.memory)}{source}", highlight=False, markup=False)
    console.print(_held_table(memory))
    console.print(_phase_table(memory, seconds))
    if seconds is not None and seconds.round:
        hours = f"{seconds.run / 3600:.3g} h" if seconds.run >= 3600 else f"{seconds.run:.3g} s"
        console.print(
            f"A round takes about {seconds.round:.3g} s, warm-up and {setup.rounds} rounds {hours} (estimate; without "
            "SFT and evaluation).",
            highlight=False,
        )
    _show_verdict(console, device, memory, advice)
    console.print(ASSUMED.format(training=TRAINING_SHARE, decoding=DECODING_SHARE), style="dim", highlight=False)


def _show_verdict(console: Console, device: Device, memory: MemoryPlan, advice: list[Saving]) -> None:
    needed = memory.needed(device)
    if memory.fits(device):
        console.print(f"It fits: {_gb(needed)} of {_gb(device.memory)}.", style="bold", highlight=False)
        return
    short = _gb(needed - device.memory)
    console.print(f"It does not fit: {_gb(needed)} of {_gb(device.memory)}, {short} too much.", style="bold red")
    if advice:
        console.print(_advice_table(advice))


def _held_table(memory: MemoryPlan) -> Table:
    table = _table("held throughout", "GB")
    for name, size in memory.held.items():
        table.add_row(name, _number(size))
    table.add_row("together", _number(sum(memory.held.values())), style="bold")
    for name, size in memory.host.items():
        table.add_row(f"in the host's memory: {name}", _number(size), style="dim")
    return table


def _phase_table(memory: MemoryPlan, seconds: TimePlan | None) -> Table:
    table = _table("phase", "peak GB", "s, estimate", "what it adds")
    took = {} if seconds is None else seconds.phases
    for name, parts in memory.phases.items():
        own = {part: size for part, size in parts.items() if part not in memory.held}
        added = ", ".join(f"{part} {_number(size)}" for part, size in own.items())
        time = next((value for phase, value in took.items() if phase.startswith(name)), None)
        style = "bold" if memory.peaks[name] == memory.peak else None
        table.add_row(name, _number(memory.peaks[name]), "" if time is None else f"{time:.3g}", added, style=style)
    return table


def _advice_table(advice: list[Saving]) -> Table:
    table = _table("knob to turn", "saves GB", "alone enough", "at the cost that")
    for one in advice:
        table.add_row(one.knob, _number(one.bytes), "yes" if one.fits else "no", one.cost)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for name in others:
        words = name.startswith(("what", "at", "alone"))
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    return table


def _gb(size: int) -> str:
    return f"{_number(size)} GB"


def _number(size: int) -> str:
    """In 10^9 bytes."""
    return f"{size / 1e9:.2f}" if size >= 5e6 else f"{size / 1e9:.2g}"
