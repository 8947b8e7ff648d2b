"""A trained reward, away from its training: what `score`, `rerank`, `localise` and `inspect` read traces with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from rairl_lightning.components.base import Granularity
from rairl_lightning.components.pooling import Pooling
from rairl_lightning.components.reader import RewardReader
from rairl_lightning.data.question_hashes import QuestionHashes
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.artefact import Artefact
from rairl_lightning.functional._checks import check_number
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.models.loading import tensors_fingerprint
from rairl_lightning.models.pair import ModelPair
from rairl_lightning.types import TokenBatch


@dataclass(frozen=True)
class Scores:
    """What a reward says of N traces.

    Attributes:
        pay_NT: ``[N, T]`` what the critic would pay, neither tempered nor clipped; meaningful on the grid.
        rewards_NT: ``[N, T]`` back-filled reward of every completion token, 0 elsewhere.
        grid_NT: ``[N, T]`` bool, where the reward is read.
        traces_N: ``[N]`` pooled reward.
    """

    pay_NT: Tensor
    rewards_NT: Tensor
    grid_NT: Tensor
    traces_N: Tensor


@dataclass(frozen=True)
class TrainedReward:
    """Models in evaluation mode, and how the discriminator is read.

    Attributes:
        models: policy, reference and discriminator.
        reader: critic, granularity, reward and pooling.
        max_tokens: padded tokens in a model at once.
        origin: where it was read from, for reports.
        trained_on: questions; empty where that was not recorded.
    """

    models: ModelPair
    reader: RewardReader
    max_tokens: int = 16384
    origin: str = ""
    trained_on: QuestionHashes = field(default=QuestionHashes())

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        backbone: str | None = None,
        pooling: Pooling | None = None,
        granularity: Granularity | None = None,
        config: Path | str | None = None,
        plugins: Sequence[str] = (),
        max_tokens: int = 16384,
    ) -> Self:
        """Load a reward that was trained, by its run, its checkpoint or its exported adapters.

        Args:
            path: a run's folder, a ``.ckpt``, or an ``adapters`` folder.
            device: ``cpu``, ``cuda``, …; ``auto`` takes an accelerator if there is one.
            backbone: folder or hub id of the base model, where it is not where it was in training.
            pooling: in the place of the reward's own.
            granularity: in the place of the reward's own; it was not trained to be read there.
            config: ``config.yaml`` of the run, for what was saved before rewards described themselves.
            plugins: packages whose classes a saved reward may name, besides this one; they are imported.
            max_tokens: padded tokens in a model at once, >= 1; changes no score.

        Raises:
            ConfigError: there is no such device.
            CheckpointError: there is no reward, or it does not fit: another base, tokenizer or chat template, a
                baseline without discriminator, tensors missing or unexpected.
            ModelError: the base model cannot be loaded.
        """
        check_number("max_tokens", max_tokens, at_least=1)
        place = device_named(device)
        artefact = Artefact.read(path, config, plugins).with_backbone(backbone)
        reader = artefact.reward_reader
        reader = replace(reader, pooling=pooling or reader.pooling, granularity=granularity or reader.granularity)
        models = artefact.build(place)
        return cls(models.eval().requires_grad_(False), reader, max_tokens, str(path), artefact.trained_on)

    @property
    def fingerprint(self) -> str:
        """Hash of all that a score depends on: base, tokenizer, the discriminator's own weights, reader."""
        weights = tensors_fingerprint(self.models.adapter_state("discriminator"))
        parts = (self.models.base_fingerprint, self.codec.fingerprint, weights, self.reader)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def context(self) -> int | None:
        """Longest trace the discriminator's backbone was made for, prompt included, in tokens; None if unknown."""
        return self.models.discriminator.context

    @property
    def codec(self) -> TraceCodec:
        """The tokenizer side."""
        return self.models.codec

    @torch.no_grad()
    def score(self, tokens: TokenBatch) -> Scores:
        """Read N traces; the result of a trace does not depend on the others."""
        return self.read(self.models.discriminator.score(tokens, self.max_tokens), tokens)

    def read(self, outputs: Tensor, tokens: TokenBatch) -> Scores:
        """What the head's outputs mean, ``[N, T, …]``, computed at once or in windows."""
        pay_NT = self.reader.pay(outputs, tokens)
        rewards_NT = self.reader.rewards(pay_NT, tokens)
        return Scores(pay_NT, rewards_NT, self.reader.granularity(tokens), self.reader.pooled(rewards_NT, tokens))


def device_named(name: str) -> torch.device:
    """The device of that name, once something could be put there; ``auto`` is an accelerator if there is one.

    Raises:
        ConfigError: there is no such device.
    """
    gpus = torch.cuda.device_count()
    try:
        device = torch.device(("cuda" if gpus else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device).item()  # of `meta` there is nothing to read
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            "There is no such device.",
            expected=", ".join(["auto", "cpu", *(f"cuda:{number}" for number in range(gpus))]),
            got=f"{name}: {str(error).partition(chr(10))[0]}",
            remedy="leave --device at auto",
        ) from error
    return device
