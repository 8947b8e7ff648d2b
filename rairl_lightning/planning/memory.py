"""Memory: what is held throughout, and what each phase adds to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rairl_lightning.models.decoding import Product
from rairl_lightning.models.shapes import PairShape, PlayerShape, TrainedShape
from rairl_lightning.planning.activations import DRAWN_LOGIT, NUCLEUS_LOGIT, Pass, cache_bytes
from rairl_lightning.planning.devices import Device
from rairl_lightning.planning.setup import Setup

REPLAYED_TOKEN = 7  # bytes, see data.rollout_buffer
SECOND_ORDER = 2  # a penalty on the gradient keeps the graph of the backward pass too
COPY = "the sampler's copy of the weights"
STEP_COPIES = 2  # of the weights in an optimiser step: as they were before, and the step's own temporaries

Parts = dict[str, int]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device, and beside it.

    Attributes:
        held: by part, from when it is there to the end.
        phases: by phase, what is there in its most demanding moment: the parts held by then, and its own.
        host: by part, in the host's memory.
    """

    held: Parts
    phases: dict[str, Parts]
    host: Parts

    @property
    def peaks(self) -> dict[str, int]:
        """Bytes of each phase."""
        return {phase: sum(parts.values()) for phase, parts in self.phases.items()}

    @property
    def peak(self) -> int:
        """Bytes of the most demanding phase."""
        return max(self.peaks.values())

    def needed(self, device: Device) -> int:
        """Bytes that must be there: the peak and, where there is no accelerator, what lies on the host."""
        return self.peak + (sum(self.host.values()) if device.on_cpu else 0)

    def fits(self, device: Device) -> bool:
        """Whether the device has so much."""
        return self.needed(device) <= device.memory


def memory_plan(setup: Setup, device: Device, shape: PairShape | None = None) -> MemoryPlan:
    """Memory that a setup takes on a device.

    Args:
        setup: what runs.
        device: where.
        shape: of the setup's pair, if it is known already.
    """
    shape = shape or setup.pair.shape(with_discriminator=setup.learns_reward)
    held = _held(setup, shape, device, set(setup.optimisers))
    early = _held(setup, shape, device, {"sft"})
    phases = _phases(setup, shape, device.on_cpu)
    kept = _kept(setup, shape.policy)
    whole = {name: (early if name.startswith("SFT") else held) | _larger(own, kept) for name, own in phases.items()}
    replay = setup.replay_rounds * setup.rollouts * setup.longest_rollout * REPLAYED_TOKEN
    best = shape.policy.trained.bytes if setup.sft_epochs else 0
    host = {"replayed rollouts": replay, "best epoch of SFT": best}
    return MemoryPlan(held, whole, {name: size for name, size in host.items() if size})


def _held(setup: Setup, shape: PairShape, device: Device, stepped: set[str]) -> Parts:
    """What is there once the optimisers ``stepped`` have taken a step: their state, and the gradients, which stay."""
    parts = dict(shape.frozen)
    for name, player in _players(shape):
        what = "weights" if player.adapter is None else "adapter" if name == "policy" else "adapter and head"
        parts[f"{name}: {what}"] = player.trained.bytes
        if stepped & ({"policy", "sft"} if name == "policy" else {name}):
            parts[f"{name}: gradients"] = player.trained.bytes
            parts[f"{name}: bf16 copy of its {what}"] = 2 * player.trained.parameters * _copied(setup, player)
    for name in [one for one in setup.optimisers if one in stepped]:
        parts[_optimiser_part(setup, name)] = setup.optimisers[name].bytes(_trained(shape, name))
    if setup.sft_epochs and stepped != {"sft"}:
        parts["reference: the policy's adapter as SFT left it"] = shape.anchor
    parts["driver and libraries"] = device.runtime
    return {name: size for name, size in parts.items() if size}


def _phases(setup: Setup, shape: PairShape, on_cpu: bool) -> dict[str, Parts]:
    policy, discriminator = shape.policy, shape.discriminator

    def reading(player: PlayerShape, traces: int, longest: int) -> Pass:
        tokens = setup.microbatch_tokens(traces, longest)
        return Pass(player, tokens, longest, setup.autocast, shape.checkpointing, on_cpu)

    phases: dict[str, Parts] = {}
    if setup.sft_epochs:
        phases["SFT"] = reading(policy, setup.prompts, setup.longest_demonstration).training()
        phases["SFT: step"] = _step(policy)
    if setup.samples:
        phases["sample"] = _sampling(setup, policy, on_cpu, setup.prompts, setup.group_size)
    if discriminator is not None and "discriminator" in setup.optimisers:
        order = SECOND_ORDER if setup.penalises_gradient else 1
        parts = reading(discriminator, setup.judged, setup.longest).training()
        phases["discriminator update"] = {name: order * size for name, size in parts.items()}
        phases["discriminator update: step"] = _step(discriminator)
    if setup.rounds:
        judge = discriminator or policy
        phases["score"] = reading(judge, setup.members, setup.longest).inference()
        phases["policy update"] = reading(policy, setup.members, setup.longest).training()
        phases["policy update: step"] = _step(policy)
    phases["evaluation"] = _sampling(setup, policy, on_cpu, *setup.evaluation)
    return {name: {part: size for part, size in parts.items() if size} for name, parts in phases.items()}


def _step(player: PlayerShape) -> Parts:
    return {"copies in the optimiser's step": STEP_COPIES * player.trained.bytes}


def _sampling(setup: Setup, policy: PlayerShape, on_cpu: bool, prompts: int, samples: int) -> Parts:
    """Prefill or decoding, whichever holds more beside the cache."""
    together, rows = setup.decoded(prompts, samples)
    prefill = Pass(policy, together * setup.prompt_tokens, setup.prompt_tokens, setup.autocast, checkpointing=False)
    logit = DRAWN_LOGIT + NUCLEUS_LOGIT * setup.cuts_tail
    drawn = rows * policy.backbone.vocabulary * logit + prefill.dequantised()
    return {
        COPY: _copy(setup, policy, on_cpu),
        "keys and values": cache_bytes(policy.backbone, cached_tokens(setup, together, rows), setup.autocast),
        "at work: prefill, or logits of the next token": max(prefill.working(), drawn),
    }


def _copy(setup: Setup, policy: PlayerShape, on_cpu: bool) -> int:
    """Of the weights, where the sampler reads a copy: on a CPU, in float32."""
    backbone = policy.backbone
    if not on_cpu or setup.autocast or backbone.weight_bytes != torch.float32.itemsize:
        return 0
    block = [Product(inputs, outputs) for inputs, outputs in backbone.products]
    return setup.weights.copy_size([*block * backbone.layers, Product(backbone.hidden, backbone.vocabulary)])


def _kept(setup: Setup, policy: PlayerShape) -> Parts:
    """What the sampler keeps between its calls: keys and values of the longest rows."""
    if not setup.keeps_cache:
        return {}
    tokens = (setup.max_rows or setup.rollouts) * setup.longest_rollout
    return {"keys and values": cache_bytes(policy.backbone, tokens, setup.autocast)}


def cached_tokens(setup: Setup, prompts: int, rows: int) -> int:
    """Tokens whose keys and values are held when every row has become as long as it may."""
    copies = prompts if setup.shares_prompts else rows
    return copies * setup.prompt_tokens + rows * setup.sampled_tokens


def _larger(one: Parts, other: Parts) -> Parts:
    """Each part as the one or the other has it."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one | other}


def _players(shape: PairShape) -> list[tuple[str, PlayerShape]]:
    both = [("policy", shape.policy), ("discriminator", shape.discriminator)]
    return [(name, player) for name, player in both if player is not None]


def _trained(shape: PairShape, optimiser: str) -> TrainedShape:
    own = {name: player.trained for name, player in _players(shape)}
    return own.get(optimiser, shape.policy.trained)  # that of SFT moves the policy


def _copied(setup: Setup, player: PlayerShape) -> bool:
    """Autocast keeps what it casts of weights that learn until the step of training is over."""
    return setup.autocast and not (player.adapter is None and player.backbone.weight_bytes == 2)


def _optimiser_part(setup: Setup, name: str) -> str:
    state = setup.optimisers[name]
    return (
        f"{name}: {state.name}" + (" (paged)" if state.paged else "") + ("" if state.measured else " (Adam's assumed)")
    )
