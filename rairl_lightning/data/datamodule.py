"""The data of a run: demonstration batches interleaved with replayed rollouts."""

from __future__ import annotations

import dataclasses
import random
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

from lightning import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits
from rairl_lightning.data.negatives import PerturbedDemonstrations
from rairl_lightning.data.rollout_buffer import RolloutBuffer
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.text.perturbations import Perturbation
from rairl_lightning.types import Demonstration, Perturbed, TokenBatch, TrainBatch


class RoundLoader:
    """Yields one :class:`TrainBatch` a round; resumable, its order a function of seed and epoch.

    Args:
        demonstrations: what to iterate over; an epoch visits each once, the incomplete last batch included.
        codec: turns text into ids.
        batch_size: prompts a round, B.
        negatives: makes perturbed demonstrations.
        perturbed_copies: corruptions of each demonstration a round.
        buffer: where replayed rollouts are drawn from.
        replayed: rollouts replayed a round.
        seed: of order, perturbations and replay; ``None`` keeps the given order (evaluation).
    """

    def __init__(
        self,
        demonstrations: Sequence[Demonstration],
        codec: TraceCodec,
        batch_size: int,
        negatives: PerturbedDemonstrations,
        perturbed_copies: int = 0,
        buffer: RolloutBuffer | None = None,
        replayed: int = 0,
        seed: int | None = None,
    ) -> None:
        self.demonstrations, self.codec, self.batch_size = tuple(demonstrations), codec, batch_size
        self.negatives, self.perturbed_copies = negatives, perturbed_copies
        self.buffer, self.replayed, self.seed = buffer, replayed, seed
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return -(-len(self.demonstrations) // self.batch_size)

    def order(self) -> list[int]:
        """The permutation of this epoch."""
        order = list(range(len(self.demonstrations)))
        if self.seed is not None:
            random.Random(f"{self.seed} order {self.epoch}").shuffle(order)
        return order

    def __iter__(self) -> Iterator[TrainBatch]:
        order, size, count = self.order(), self.batch_size, len(self)
        for number in range(self.position, count):
            rows = order[number * size : (number + 1) * size]
            batch = self.collate([self.demonstrations[row] for row in rows], number)
            # Lightning stops fetching at len(self), so nothing after the last yield would run, and it tells only
            # samplers the epoch: the next one is set before, not after.
            self.epoch, self.position = (self.epoch, number + 1) if number + 1 < count else (self.epoch + 1, 0)
            yield batch

    def collate(self, demonstrations: Sequence[Demonstration], number: int) -> TrainBatch:
        """Turn B demonstrations into a round's batch with its negatives."""
        rng = random.Random(f"{self.seed} negatives {self.epoch} {number}")
        experts = [self.codec.encode_demonstration(demonstration) for demonstration in demonstrations]
        replayed = self.buffer.sample(self.replayed, rng) if self.buffer is not None else []
        return TrainBatch(
            demonstrations=tuple(demonstrations),
            prompts=tuple(tuple(trace.prompt_ids) for trace in experts),
            experts=TokenBatch.from_traces(experts, self.codec.pad_id),
            perturbed=self.negatives(demonstrations, self.perturbed_copies, rng),
            replayed=TokenBatch.from_traces(replayed, self.codec.pad_id),
        )

    def state_dict(self) -> dict[str, int]:
        """Batches seen in the epoch, which Lightning stores with its loops."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue in the middle of an epoch."""
        self.epoch, self.position = state["epoch"], state["position"]


class DemonstrationDataModule(LightningDataModule):
    """Demonstrations for both players, and the memory of what the policy sampled.

    The splits are disjoint by question. During ``fit`` everything is chosen on the selection split; the test split
    is only read by ``rairl validate`` and ``rairl test`` and by the final report.

    Args:
        source: the data set, by class path.
        path: short for ``source.init_args.path``: a folder or hub id.
        batch_size: prompts a round (B), >= 1.
        eval_batch_size: prompts an evaluation batch, >= 1.
        perturbations: kinds of corrupted demonstrations, negatives of the discriminator and localisation tests.
        perturbed_copies: corruptions of each demonstration a round, >= 0.
        replay_rounds: rounds the rollout buffer remembers (paper: 100), >= 0.
        replayed: rollouts replayed a round, >= 0.
        max_prompt_tokens: longer prompts are left out, counted and reported (paper: 300).
        max_completion_tokens: longer demonstrations are left out, counted and reported (paper: 824).
        seed: of order, perturbations and replay.
    """

    def __init__(
        self,
        source: DemonstrationSource,
        path: str | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        perturbations: list[Perturbation] | None = None,
        perturbed_copies: int = 1,
        replay_rounds: int = 100,
        replayed: int = 32,
        max_prompt_tokens: int = 300,
        max_completion_tokens: int = 824,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(batch_size, eval_batch_size) < 1 or min(perturbed_copies, replayed) < 0:
            raise ConfigError(
                "The batch sizes cannot be used.",
                expected="batch_size, eval_batch_size >= 1; perturbed_copies, replayed >= 0",
                got=f"{batch_size}, {eval_batch_size}; {perturbed_copies}, {replayed}",
            )
        self.source = with_path(source, path)
        self.grader = self.source.grader
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.perturbations, self.perturbed_copies = tuple(perturbations or ()), perturbed_copies
        self.replayed, self.seed = replayed, seed
        self.max_prompt_tokens, self.max_completion_tokens = max_prompt_tokens, max_completion_tokens
        self.buffer = RolloutBuffer(replay_rounds)
        self.splits: Splits | None = None
        self.left_out: dict[str, int] = {}

    def setup(self, stage: str) -> None:
        """Read the data set once and leave out what is too long; says how many.

        Raises:
            ConfigError: outside of a trainer, which knows the model's tokenizer.
            DataError: from the data set, if there is nothing to train on, or if nothing fits the limits.
        """
        if self.splits is not None:
            return
        if self.trainer is None:
            raise ConfigError("The data module has no trainer.", remedy="pass it to trainer.fit(module, datamodule)")
        self.codec = cast(TraceCodec, self.trainer.lightning_module.codec)
        self.negatives = PerturbedDemonstrations(self.perturbations, self.codec)
        splits = self.source.splits()
        if stage == "fit" and not splits.train:
            raise DataError(
                f"{type(self.source).__name__} has no training demonstrations: it is for evaluation only.",
                expected="demonstrations to learn from",
                got=f"{len(splits.test)} test questions",
                remedy="rairl validate, test and predict read its test split; to train, name another data.source",
            )
        self.splits = Splits(*(self._fitting(name, getattr(splits, name)) for name in ("train", "selection", "test")))

    def _fitting(self, name: str, demonstrations: Sequence[Demonstration]) -> tuple[Demonstration, ...]:
        traces = [self.codec.encode_demonstration(demonstration) for demonstration in demonstrations]
        kept = tuple(
            demonstration
            for demonstration, trace in zip(demonstrations, traces, strict=True)
            if len(trace.prompt_ids) <= self.max_prompt_tokens
            and (name == "test" or len(trace.completion_ids) <= self.max_completion_tokens)
        )
        self.left_out[name] = len(demonstrations) - len(kept)
        if self.left_out[name]:
            warnings.warn(
                f"{self.left_out[name]} of {len(demonstrations)} {name} examples are longer than "
                f"data.max_prompt_tokens={self.max_prompt_tokens} or "
                f"data.max_completion_tokens={self.max_completion_tokens} and are left out (nothing is cut).",
                stacklevel=2,
            )
        if demonstrations and not kept:
            prompts, completions = zip(*((len(t.prompt_ids), len(t.completion_ids)) for t in traces), strict=True)
            raise DataError(
                f"Every {name} example is too long.",
                expected=f"at most {self.max_prompt_tokens} prompt and {self.max_completion_tokens} completion tokens",
                got=f"at least {min(prompts)} and {min(completions)}",
                remedy="raise data.max_prompt_tokens and data.max_completion_tokens",
            )
        return kept

    def train_dataloader(self) -> RoundLoader:
        """One batch a round: prompts, demonstrations, perturbed demonstrations, replayed rollouts."""
        return RoundLoader(
            self.examples("train"),
            self.codec,
            self.batch_size,
            self.negatives,
            self.perturbed_copies,
            self.buffer,
            self.replayed,
            self.seed,
        )

    def val_dataloader(self) -> RoundLoader:
        """The selection split while fitting; the test split for a stand-alone ``rairl validate``."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return self.eval_loader("selection" if fitting else "test")

    def test_dataloader(self) -> RoundLoader:
        """The test split."""
        return self.eval_loader("test")

    def predict_dataloader(self) -> RoundLoader:
        """The test split."""
        return self.eval_loader("test")

    def eval_loader(self, split: str) -> RoundLoader:
        """Batches of ``split`` in their given order, without negatives."""
        return RoundLoader(self.examples(split), self.codec, self.eval_batch_size, self.negatives)

    def perturbed(self, demonstrations: Sequence[Demonstration], seed: int) -> Perturbed:
        """Each demonstration corrupted once where a perturbation applies, for localisation."""
        return self.negatives(demonstrations, 1, random.Random(f"{seed} localisation"))

    def examples(self, split: str) -> tuple[Demonstration, ...]:
        """All examples of ``train``, ``selection`` or ``test``.

        Raises:
            ConfigError: before :meth:`setup`.
        """
        if self.splits is None:
            raise ConfigError("The data is used before it is set up.", remedy="call datamodule.setup(stage) first")
        return getattr(self.splits, split)

    def teardown(self, stage: str) -> None:
        """Say how many perturbations did not apply, by kind."""
        if stage == "fit" and self.splits is not None and self.negatives.rejected:
            counts = ", ".join(f"{kind} {count}" for kind, count in sorted(self.negatives.rejected.items()))
            rank_zero_info(f"Perturbations that did not apply and were replaced by another kind or left out: {counts}.")

    def state_dict(self) -> dict[str, Any]:
        """The rollout buffer; order and position are in the loader's state."""
        return {"buffer": self.buffer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rollout buffer."""
        self.buffer.load_state_dict(state_dict["buffer"])


def with_path(source: DemonstrationSource, path: str | None) -> DemonstrationSource:
    """The same source reading from ``path``.

    Raises:
        ConfigError: if the source reads nothing, such as a generated task.
    """
    if path is None:
        return source
    if "path" not in {item.name for item in dataclasses.fields(source)}:
        raise ConfigError(
            f"{type(source).__name__} has no path, so data.path means nothing to it.",
            remedy="drop data.path and set what it reads under data.source.init_args, or name another data.source",
        )
    changed: dict[str, Any] = {"path": path}
    return dataclasses.replace(source, **changed)
