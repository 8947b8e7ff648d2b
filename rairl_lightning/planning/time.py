"""Time of each phase, from floating-point operations and bytes read; the shares of the peak reached are assumed."""

from __future__ import annotations

from dataclasses import dataclass

from rairl_lightning.models.shapes import PairShape, PlayerShape
from rairl_lightning.planning.activations import cache_bytes
from rairl_lightning.planning.devices import Device
from rairl_lightning.planning.memory import cached_tokens
from rairl_lightning.planning.setup import Setup

TRAINING_SHARE = 0.4  # of the peak of matrix products, in training and scoring: assumed
DECODING_SHARE = 0.5  # of the memory's bandwidth, in decoding: assumed
LAYER_SECONDS = 1e-3  # to start the kernels of one layer with adapters for one token, on an accelerator: assumed


@dataclass(frozen=True)
class TimePlan:
    """Seconds; upper bounds as far as lengths go, estimates as far as speed does.

    Attributes:
        phases: of one round, or of one batch of SFT.
        round: of a whole round; 0 where there is none.
        run: warm-up and rounds, without SFT and evaluation, whose lengths the data decide.
    """

    phases: dict[str, float]
    round: float
    run: float


def time_plan(setup: Setup, device: Device, shape: PairShape | None = None) -> TimePlan | None:
    """Time that a setup takes on a device; None where its speed is not known.

    Args:
        setup: what runs.
        device: where.
        shape: of the setup's pair, if it is known already.
    """
    if device.flops is None or device.bandwidth is None:
        return None
    shape = shape or setup.pair.shape(with_discriminator=setup.learns_reward)
    compute = device.flops * TRAINING_SHARE
    phases = {name: flops / compute for name, flops in _work(setup, shape).items()}
    if setup.samples:
        phases = {"sample": _sampling_seconds(setup, shape.policy, device), **phases}
    batch = {name: seconds for name, seconds in phases.items() if name != "SFT, a batch"}
    judging = sum(batch.get(name, 0.0) for name in ("sample", "discriminator updates"))
    warmups = -(-setup.warmup_updates // max(1, setup.discriminator_updates))
    whole = sum(batch.values()) if setup.rounds else 0.0
    return TimePlan(phases, whole, warmups * judging + setup.rounds * whole)


def _work(setup: Setup, shape: PairShape) -> dict[str, float]:
    """Floating-point operations of each phase but sampling."""
    policy, judge = shape.policy, shape.discriminator
    demonstration = (setup.longest_demonstration, setup.demonstration_tokens)
    trace = (setup.longest, max(setup.demonstration_tokens, setup.sampled_tokens))
    work: dict[str, float] = {}
    if setup.sft_epochs:
        work["SFT, a batch"] = setup.prompts * _training(policy, shape.checkpointing, *demonstration)
    if judge is not None and "discriminator" in setup.optimisers:
        count = setup.discriminator_updates * setup.judged
        work["discriminator updates"] = count * _training(judge, shape.checkpointing, *trace)
    if setup.rounds:
        scored = 0.0 if judge is None else setup.members * forward_flops(judge, *trace)
        work |= {"score": scored} if scored else {}
        update = _training(policy, shape.checkpointing, *trace)
        update += forward_flops(policy, *trace) if setup.asks_reference else 0.0
        work["policy update"] = setup.policy_passes * setup.members * update
    return work


def forward_flops(player: PlayerShape, length: int, read: int) -> float:
    """Operations of one trace: two a weight and token, and those of causal attention.

    Args:
        player: who reads.
        length: tokens of the trace.
        read: tokens whose next-token distribution is looked at.
    """
    shape = player.backbone
    weights = sum(shape.linears) + (player.adapter.parameters if player.adapter else 0)
    attention = 2 * shape.layers * shape.queries * length  # q·k and p·v over half the square
    output = 2 * shape.hidden * shape.vocabulary * read if player.reads_vocabulary else 0
    return float(length * (2 * weights + attention) + output)


def _training(player: PlayerShape, checkpointing: bool, length: int, read: int) -> float:
    """Forward, backward to the activations, backward to the weights that learn, and what is recomputed."""
    shape = player.backbone
    learning = sum(shape.linears) if player.adapter is None else player.adapter.parameters
    forward = forward_flops(player, length, read)
    output = 2 * shape.hidden * shape.vocabulary * read if player.reads_vocabulary else 0
    again = forward if checkpointing else output  # logits are recomputed anyhow
    return 2 * forward + again + 2.0 * length * learning


def _sampling_seconds(setup: Setup, policy: PlayerShape, device: Device) -> float:
    """Prefill of every prompt, then a step a token: weights and cache are read, and every row computed."""
    assert device.flops is not None and device.bandwidth is not None
    together, rows = setup.decoded(setup.prompts, setup.group_size)
    passes = -(-setup.rollouts // rows)
    prefill = passes * together * forward_flops(policy, setup.prompt_tokens, 1) / (device.flops * TRAINING_SHARE)
    half_full = (cached_tokens(setup, together, rows) + cached_tokens(setup, together, 0)) // 2
    read = _read_bytes(policy) + cache_bytes(policy.backbone, half_full, setup.autocast)
    step = max(
        read / (device.bandwidth * DECODING_SHARE),
        rows * forward_flops(policy, 1, 1) / (device.flops * TRAINING_SHARE),
        0.0 if device.on_cpu else policy.backbone.layers * LAYER_SECONDS,
    )
    return prefill + passes * setup.sampled_tokens * step


def _read_bytes(policy: PlayerShape) -> int:
    """Weights moved in one step; NF4 is read, and with several rows written and read again in 16 bits."""
    shape = policy.backbone
    blocks = shape.linear_bytes + (4 * sum(shape.linears) if shape.quantised else 0)
    adapter = policy.adapter.bytes if policy.adapter else 0
    return blocks + adapter + shape.weight_bytes * shape.hidden * shape.vocabulary
