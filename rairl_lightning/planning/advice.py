"""Which knob to turn where memory is short: each is turned, and the plan made again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from rairl_lightning.models.pair import PairSpec
from rairl_lightning.models.specs import BackboneSpec, LoRASpec
from rairl_lightning.planning.devices import Device
from rairl_lightning.planning.memory import memory_plan
from rairl_lightning.planning.optimisers import OptimiserState
from rairl_lightning.planning.setup import Setup

EIGHT_BIT = OptimiserState("PagedAdamW8bit", 2 + 8 / 256, 2048.0)  # two bytes, and two scales a block of 256
WORTH = 0.005  # of the peak: less is not advised

Turned = tuple[str, Setup, str]


@dataclass(frozen=True)
class Saving:
    """One knob.

    Attributes:
        knob: as in YAML, with the value it is turned to.
        bytes: what it takes off the peak, by itself.
        fits: whether that is enough.
        cost: what it costs.
    """

    knob: str
    bytes: int
    fits: bool
    cost: str


def savings(setup: Setup, device: Device) -> list[Saving]:
    """What each knob would save on a device, the most first."""
    peak = memory_plan(setup, device).needed(device)
    found = []
    for knob, turned, cost in _turned(setup):
        plan = memory_plan(turned, device)
        found.append(Saving(knob, peak - plan.needed(device), plan.fits(device), cost))
    return sorted((one for one in found if one.bytes > WORTH * peak), key=lambda one: -one.bytes)


def _turned(setup: Setup) -> Iterator[Turned]:
    """Every knob turned one notch, alone."""
    yield from _of_pair(setup)
    yield from _of_optimisers(setup)
    budget = max(setup.longest, setup.microbatch // 2)
    if budget < setup.microbatch:
        lower = replace(setup, microbatch=budget)
        yield f"model.max_tokens_per_microbatch: {budget}", lower, "smaller products; no gradient changes"
    rows = max(setup.decoded(setup.prompts, setup.group_size)[1], setup.decoded(*setup.evaluation)[1])
    if rows > 1:
        halved = -(-rows // 2)
        yield f"model.sampler.max_rows: {halved}", replace(setup, max_rows=halved), "sampling takes longer"
    if setup.group_size > 2:
        half = setup.group_size // 2
        yield f"model.group_size: {half}", replace(setup, group_size=half), "changes the experiment"
    if setup.sampled_tokens > 1:
        short = setup.sampled_tokens // 2
        changed = replace(setup, sampled_tokens=short, demonstration_tokens=min(setup.demonstration_tokens, short))
        yield (
            f"model.sampler.max_new_tokens and data.max_completion_tokens: {short}",
            changed,
            "longer traces are lost; changes the experiment",
        )


def _of_pair(setup: Setup) -> Iterator[Turned]:
    pair: Any = setup.pair
    if getattr(pair, "activation_checkpointing", None) is False:
        turned = replace(setup, pair=replace(pair, activation_checkpointing=True))
        yield "model.pair.activation_checkpointing: true", turned, "training passes take about a third longer"
    loras = {name: replace(value, r=value.r // 2) for name, value in _fields(pair, LoRASpec) if value.r > 1}
    if loras:
        said = ", ".join(f"model.pair.{name}.r: {lora.r}" for name, lora in loras.items())
        yield said, replace(setup, pair=replace(pair, **loras)), "the adapters learn less"
    bases = dict(_fields(pair, BackboneSpec))
    halved = {name: replace(base, dtype="bfloat16") for name, base in bases.items() if base.dtype == "float32"}
    if halved:
        said = ", ".join(f"model.pair.{name}.dtype: bfloat16" for name in halved)
        yield said, replace(setup, pair=replace(pair, **halved), autocast=True), "with trainer.precision: bf16-mixed"
    packed = {name: replace(base, quantisation="nf4") for name, base in bases.items() if not base.quantisation}
    if packed and loras:
        said = ", ".join(f"model.pair.{name}.quantisation: nf4" for name in packed)
        yield said, replace(setup, pair=replace(pair, **packed)), "weights are rounded; decoding takes longer"


def _of_optimisers(setup: Setup) -> Iterator[Turned]:
    large = [name for name, state in setup.optimisers.items() if state.a_parameter > EIGHT_BIT.a_parameter]
    if large:
        turned = replace(setup, optimisers={**setup.optimisers, **dict.fromkeys(large, EIGHT_BIT)})
        said = ", ".join(f"model.{name}_optimizer: bitsandbytes.optim.PagedAdamW8bit" for name in large)
        yield said, turned, "the optimiser's state is rounded"


def _fields(pair: PairSpec, kind: type) -> Iterator[tuple[str, Any]]:
    named = ((item.name, getattr(pair, item.name)) for item in fields(pair))  # type: ignore[arg-type]
    return ((name, value) for name, value in named if isinstance(value, kind))
