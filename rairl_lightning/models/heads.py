"""Discriminator heads: from hidden states to logits that are high for experts.

A head is a frozen dataclass that builds a module; any subclass of :class:`HeadSpec` can be named in YAML.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional.logprobs import gathered_logprobs
from rairl_lightning.types import TokenBatch

# A log-probability below this says no more than "not expected"; the scale brings the range to about that of a
# normalised feature.
LOGPROB_FLOOR, LOGPROB_SCALE = -20.0, 4.0


@dataclass(frozen=True)
class HeadInputs:
    """What a head may look at.

    Attributes:
        hidden_NTH: last hidden states, float32.
        tokens: the N traces.
        embedding: the tokens' ids to their input embeddings.
        lm_head: hidden states to vocabulary logits; only there if the head's spec asks for it.
    """

    hidden_NTH: Tensor
    tokens: TokenBatch
    embedding: Callable[[Tensor], Tensor]
    lm_head: Callable[[Tensor], Tensor]


class HeadSpec(ABC):
    """Builds a head."""

    @property
    def needs_lm_head(self) -> bool:
        """True if the head reads the decoder's own next-token distribution."""
        return False

    @abstractmethod
    def build(self, hidden_size: int) -> nn.Module:
        """Return a module that maps :class:`HeadInputs` to ``[N, T]``, or ``[N, T, 2]``, and starts at 0."""

    def as_linear(self, head: nn.Module) -> nn.Linear | None:
        """What was built as one layer over the last hidden state, an output a row; None where it reads anything else.

        Args:
            head: from :meth:`build`, trained or not.
        """
        return None


@dataclass(frozen=True)
class LinearHead(HeadSpec):
    """The plain scalar head, ``d_t = w·h_t + b`` (arXiv 2510.01857, §3)."""

    def build(self, hidden_size: int) -> nn.Module:
        """See :class:`HeadSpec`."""
        return _Linear(hidden_size)

    def as_linear(self, head: nn.Module) -> nn.Linear | None:
        """See :class:`HeadSpec`."""
        assert isinstance(head, _Linear)
        return head.scalar


@dataclass(frozen=True)
class ExpectationHead(HeadSpec):
    """The plain head plus an MLP that compares each token with what was expected there (not in the paper).

    ``d_t = w·h_t + b + MLP([h_t, h_{t-1} ⊙ e(x_t), log p(x_t), min_{s≤t} log p(x_s)])`` with ``p`` the
    discriminator's own next-token distribution. A small backbone does not store in ``h_t`` whether ``x_t`` was
    expected; these features tell it.

    Attributes:
        mlp_size: hidden units.
        use_hidden: feed ``h_t``.
        use_product: feed ``h_{t-1} ⊙ e(x_t)``.
        use_logprob: feed ``log p(x_t)``.
        use_running_min: feed the lowest ``log p`` of the completion so far.
    """

    mlp_size: int = 64
    use_hidden: bool = True
    use_product: bool = True
    use_logprob: bool = True
    use_running_min: bool = True

    def __post_init__(self) -> None:
        if not (self.use_hidden or self.use_product or self.needs_lm_head):
            raise ConfigError("The expectation head has no feature.", expected="at least one use_… true", got="none")

    @property
    def needs_lm_head(self) -> bool:
        """True if a log-probability is among the features."""
        return self.use_logprob or self.use_running_min

    def build(self, hidden_size: int) -> nn.Module:
        """See :class:`HeadSpec`."""
        return _Expectation(self, hidden_size)


@dataclass(frozen=True)
class TwoHeads(HeadSpec):
    """``g`` and ``h`` of the two-head critic, ``[N, T, 2]``: a reward and a potential (arXiv 1710.11248).

    Attributes:
        reward: emits ``g``.
        potential: emits ``h``.
    """

    reward: HeadSpec = field(default_factory=LinearHead)
    potential: HeadSpec = field(default_factory=LinearHead)

    @property
    def needs_lm_head(self) -> bool:
        """If either does."""
        return self.reward.needs_lm_head or self.potential.needs_lm_head

    def build(self, hidden_size: int) -> nn.Module:
        """See :class:`HeadSpec`."""
        return _Two(self.reward.build(hidden_size), self.potential.build(hidden_size))

    @torch.no_grad()
    def as_linear(self, head: nn.Module) -> nn.Linear | None:
        """See :class:`HeadSpec`."""
        assert isinstance(head, _Two)
        g, h = self.reward.as_linear(head.reward), self.potential.as_linear(head.potential)
        if g is None or h is None:
            return None
        both = nn.Linear(g.in_features, 2, device=g.weight.device)
        both.weight.copy_(torch.cat([g.weight, h.weight]))
        both.bias.copy_(torch.cat([g.bias, h.bias]))
        return both


class _Two(nn.Module):
    def __init__(self, reward: nn.Module, potential: nn.Module) -> None:
        super().__init__()
        self.reward, self.potential = reward, potential

    def forward(self, inputs: HeadInputs) -> Tensor:
        return torch.stack([self.reward(inputs), self.potential(inputs)], dim=-1)


class _Linear(nn.Module):
    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.scalar = _silent(nn.Linear(hidden_size, 1))

    def forward(self, inputs: HeadInputs) -> Tensor:
        return self.scalar(inputs.hidden_NTH).squeeze(-1)


class _Expectation(nn.Module):
    def __init__(self, spec: ExpectationHead, hidden_size: int) -> None:
        super().__init__()
        self.spec = spec
        width = hidden_size * (spec.use_hidden + spec.use_product) + spec.use_logprob + spec.use_running_min
        self.scalar = _silent(nn.Linear(hidden_size, 1))
        self.mlp = nn.Sequential(nn.Linear(width, spec.mlp_size), nn.GELU(), _silent(nn.Linear(spec.mlp_size, 1)))

    def forward(self, inputs: HeadInputs) -> Tensor:
        features_NTF = torch.cat(self._features(inputs), dim=-1)
        return (self.scalar(inputs.hidden_NTH) + self.mlp(features_NTF)).squeeze(-1)

    def _features(self, inputs: HeadInputs) -> list[Tensor]:
        hidden_NTH, tokens, spec = _unit(inputs.hidden_NTH), inputs.tokens, self.spec
        features = [hidden_NTH] if spec.use_hidden else []
        if spec.use_product:
            # The first token has no state before it on either padding side: padding says nothing of the trace.
            read_NTH = hidden_NTH.masked_fill(~tokens.attention_mask.unsqueeze(-1), 0.0)
            before_NTH = F.pad(read_NTH[:, :-1], (0, 0, 1, 0))
            features.append(before_NTH * _unit(inputs.embedding(tokens.input_ids).float()))
        if spec.needs_lm_head:
            logprobs_NT = gathered_logprobs(
                inputs.hidden_NTH, tokens.input_ids, tokens.completion_mask, inputs.lm_head
            ).logprobs.clamp(min=LOGPROB_FLOOR)
            # 0 outside the completion is the largest log-probability, hence neutral on either padding side.
            lowest_NT = logprobs_NT.cummin(dim=1).values
            features += [logprobs_NT[..., None] / LOGPROB_SCALE] if spec.use_logprob else []
            features += [lowest_NT[..., None] / LOGPROB_SCALE] if spec.use_running_min else []
        return features


def _unit(vectors: Tensor) -> Tensor:
    """Root mean square 1, whatever the backbone's scale."""
    return F.rms_norm(vectors, vectors.shape[-1:], eps=1e-6)


def _silent(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
