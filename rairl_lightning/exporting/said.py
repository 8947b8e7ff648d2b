"""What a reward's reader does, in words and in lines of plain torch, for those who have not this package.

The lines see ``ids`` (the completion's), ``logits`` (of the prompt's last token and of every completion token),
``completion``, ``finished`` and ``tokenizer``; each says a name that the next ones read: ``read`` (where the reward is
read), ``pay``, ``rewards`` (there), ``tokens`` (every token's) and ``trace``.

A component of your own is said by registering it: ``grid.register(MyGranularity)``.
"""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

from rairl_lightning.components import (
    ClippedLogit,
    Dense,
    Interval,
    Last,
    MeanOverGrid,
    Minimum,
    Product,
    ReadF,
    ReadG,
    ReadMixed,
    SingleHead,
    Sparse,
    Step,
    TokenWeighted,
    TwoHead,
)
from rairl_lightning.errors import ConfigError

STEPS = "steps"
"""Module of the step splitter, which is written beside the weights where it is needed."""
ALONE = "pay = logits[read + 1, 0]"
LOG_PRODUCT = "trace = torch.nn.functional.logsigmoid(rewards).sum()"


class Said(NamedTuple):
    """One part.

    Attributes:
        words: a sentence without its end.
        code: lines of Python.
        imports: lines of Python that go first.
    """

    words: str
    code: tuple[str, ...]
    imports: tuple[str, ...] = ()


def _unsaid(part: object) -> ConfigError:
    return ConfigError(
        f"How {type(part).__name__} reads a reward is not said in plain torch.",
        expected="a component of rairl_lightning.components",
        got=repr(part)[:80],
        remedy="register it in rairl_lightning.exporting.said; `rairl score` reads this reward as it is",
    )


@singledispatch
def grid(granularity: object) -> Said:
    """Where the reward is read: ``read``, places among the completion's tokens, the last always."""
    raise _unsaid(granularity)


grid.register(Sparse, lambda _: Said("at the last token of the completion", ("read = torch.tensor([len(ids) - 1])",)))


grid.register(Dense, lambda _: Said("at every token of the completion", ("read = torch.arange(len(ids))",)))


@grid.register
def _(granularity: Interval) -> Said:
    every = granularity.every
    line = f"read = torch.tensor(sorted({{*range({every - 1}, len(ids), {every}), len(ids) - 1}}))"
    return Said(f"at tokens {every}, {2 * every}, … of the completion, counted from 1, and at its last", (line,))


STEPWISE = Said(
    (
        f"at the last token of each reasoning step, and of the completion; steps are found by `{STEPS}.py`, which lies "
        "beside the weights and needs Python alone: lines, or the sentences of lines that are longer than 160 "
        "characters; an answer block is one step"
    ),
    (
        'spans = tokenizer(completion, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]',
        "steps = step_spans(completion)[: -1 if finished else None]  # the last one ends with the end of turn",
        "within = [[t for t, (a, b) in enumerate(spans) if a < min(b, end) and start < b] for start, end in steps]",
        "read = torch.tensor(sorted({*(found[-1] for found in within if found), len(ids) - 1}))",
    ),
    (f"from {STEPS} import step_spans",),
)
grid.register(Step, lambda _: STEPWISE)


@singledispatch
def share(read_out: object) -> float:
    """Weight of the shaping term in what is paid."""
    raise _unsaid(read_out)


share.register(ReadG, lambda _: 0.0)


share.register(ReadF, lambda _: 1.0)


share.register(ReadMixed, lambda mixed: mixed.shaping_weight)


@singledispatch
def labels(critic: object) -> tuple[str, ...]:
    """Names of the head's outputs."""
    raise _unsaid(critic)


labels.register(SingleHead, lambda _: ("logit_expert_is_high",))


labels.register(TwoHead, lambda _: ("g_reward", "h_potential"))


@singledispatch
def pay(critic: object) -> Said:
    """``pay``: from the head's outputs to a number at each place of ``read``."""
    raise _unsaid(critic)


pay.register(
    SingleHead, lambda _: Said("the logit d of the discriminator, high for what an expert would write", (ALONE,))
)


@pay.register
def _(critic: TwoHead) -> Said:
    weight = share(critic.read_out)
    if not weight:
        return Said("g, the first output; h, the second, only shaped training", (ALONE,))
    clip = critic.shaping_clip
    bounds = "" if clip is None else f".clamp({-clip!r}, {clip!r})"
    words = (
        f"g + {weight:g} (γ h' - h){bounds}, with g the first output, h the second at the place before (at first the "
        f"prompt's end), h' here (0 at the last), γ = {critic.gamma:g}"
    )
    code = (
        "h = logits[torch.cat([torch.tensor([0]), read + 1]), 1]",
        f"shaping = ({critic.gamma!r} * torch.cat([h[1:-1], torch.zeros(1)]) - h[:-1]){bounds}",
        f"pay = logits[read + 1, 0] + {weight!r} * shaping",
    )
    return Said(words, code)


@singledispatch
def reward(kind: object) -> Said:
    """``rewards``: from what is paid to the reward, at each place of ``read``."""
    raise _unsaid(kind)


@reward.register
def _(kind: ClippedLogit) -> Said:
    low, high, temperature = -kind.clip, kind.clip, kind.temperature
    words = f"what is paid, divided by {temperature:g}, no less than {low:g} and no more than {high:g}"
    return Said(words, (f"rewards = (pay / {temperature!r}).clamp({low!r}, {high!r})",))


@singledispatch
def pooled(pooling: object) -> Said:
    """``trace``: one number."""
    raise _unsaid(pooling)


pooled.register(TokenWeighted, lambda _: Said("the mean over all tokens of the completion", ("trace = tokens.mean()",)))


pooled.register(
    MeanOverGrid, lambda _: Said("the mean over the places where the reward is read", ("trace = rewards.mean()",))
)


pooled.register(Last, lambda _: Said("the reward at the last token", ("trace = rewards[-1]",)))


pooled.register(Minimum, lambda _: Said("the lowest reward", ("trace = rewards.min()",)))


pooled.register(
    Product, lambda _: Said("the sum of log σ(reward) over the places where the reward is read", (LOG_PRODUCT,))
)
