"""What R-AIRL and its baselines share with Lightning: models, checkpoints, evaluation. No algorithm lives here."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from rairl_lightning import __version__
from rairl_lightning.algorithms.nonfinite import culprits
from rairl_lightning.algorithms.optimisation import Stopwatch, Update
from rairl_lightning.algorithms.phases import Clock
from rairl_lightning.algorithms.process_requirements import require_strategy
from rairl_lightning.algorithms.sharded import FSDP2
from rairl_lightning.components.description import FORMAT, STATE_KEY, described
from rairl_lightning.errors import CheckpointError, ConfigError, TrainingError
from rairl_lightning.functional.masking import masked_mean
from rairl_lightning.models.codec import TraceCodec, check_tokenizer
from rairl_lightning.models.pair import ModelPair, PairSpec
from rairl_lightning.rollouts.base import Sampler
from rairl_lightning.rollouts.shared_out import SharedOut
from rairl_lightning.text.answers import extract_answer
from rairl_lightning.text.chat import parse_completion
from rairl_lightning.text.graders import Exact, Grade, Grader
from rairl_lightning.types import Rollouts, TokenBatch, TrainBatch


class PairModule(LightningModule):
    """A policy, and maybe a discriminator, under manual optimisation; checkpoints hold only what moves.

    Args:
        pair: how policy, discriminator and reference are made.
        sampler: draws completions from the policy.
        max_tokens_per_microbatch: tokens that go through a model at once, >= 1; the gradient does not depend on it.
            A model that reads packed rows counts a prompt once for its traces and no padding, another padded tokens.
        seed: of sampling and of drawing discriminator batches.
    """

    learns_reward = False
    """Whether there is a discriminator; a baseline loads none."""
    commit = "unknown"
    """Of the code that trains; whoever saves says it."""
    trained_on: str | None = None
    """Hashes of the training questions; whoever saves says it."""

    def __init__(self, pair: PairSpec, sampler: Sampler, max_tokens_per_microbatch: int = 16384, seed: int = 0) -> None:
        super().__init__()
        if max_tokens_per_microbatch < 1:
            raise ConfigError(
                "No token fits a micro-batch.", expected="max_tokens_per_microbatch >= 1", got=max_tokens_per_microbatch
            )
        self.automatic_optimization = False
        self.strict_loading = False  # the frozen base is not in checkpoints; what must arrive is checked below
        self.pair_spec, self.sampler = pair, sampler
        self.max_tokens_per_microbatch, self.seed = max_tokens_per_microbatch, seed
        self.pair: ModelPair | None = None
        self.clock = Clock()
        self.stopwatch = Stopwatch()

    @cached_property
    def codec(self) -> TraceCodec:
        """The tokenizer side of the pair, available before any weights are loaded."""
        codec = self.pair_spec.load_codec()
        check_tokenizer(codec)
        return codec

    @property
    def models(self) -> ModelPair:
        """The loaded pair.

        Raises:
            ConfigError: before ``configure_model`` has run.
        """
        if self.pair is None:
            raise ConfigError("The models are not loaded yet.", remedy="call module.configure_model() first")
        return self.pair

    @property
    def last_step(self) -> int:
        """The training step behind us, as Lightning counts what it logs: from 0."""
        return self.clock.batches - 1

    @property
    def anchors_reference(self) -> bool:
        """Whether the reference comes to differ from the base."""
        return False

    def configure_model(self) -> None:
        """Load the models once, and split them over the processes under FSDP2."""
        if self.pair is None:
            device = self.trainer.strategy.root_device if self._trainer is not None else "cpu"
            self.pair = self.pair_spec.build(device, with_discriminator=self.learns_reward)
            self.pair.train()  # loaded in evaluation mode, in which Lightning leaves it: no checkpointing, no dropout
            if self.device_mesh is not None:
                self.pair.shard(self.device_mesh["data_parallel"], anchors=self.anchors_reference)

    def setup(self, stage: str) -> None:
        """Refuse strategies that would run and be wrong, and share sampling out where there are several processes.

        Raises:
            ConfigError: the processes do not each hold the whole of both players.
        """
        require_strategy(self.trainer)
        alone = self.trainer.world_size == 1 and not isinstance(self.trainer.strategy, FSDP2)
        if not alone and not isinstance(self.sampler, SharedOut):
            self.sampler = SharedOut(self.sampler)

    def generator(self, purpose: str) -> torch.Generator:
        """Randomness of this training step: a function of seed, step and purpose, so resuming needs no state.

        It is the same in every process: what is drawn is drawn for all of them.
        """
        return torch.Generator(device=self.device).manual_seed(self._step_seed(purpose, 0))

    def on_train_batch_start(self, batch: TrainBatch, batch_idx: int) -> None:
        """Seed torch's own generator, from which dropout draws, by the step and the process."""
        torch.manual_seed(self._step_seed("dropout", self.global_rank))

    def _step_seed(self, purpose: str, rank: int) -> int:
        return random.Random(f"{self.seed} {self.clock.batches} {rank} {purpose}").getrandbits(63)

    def sample(self, batch: TrainBatch, group_size: int) -> Rollouts:
        """Draw ``group_size`` completions of each prompt from the policy, and say of which version of it they are.

        Raises:
            TrainingError: the sampler has drawn from other weights than those of now.
        """
        with self.stopwatch("sample"):
            rollouts = self.sampler.sample(
                self.models.policy, batch.prompts, group_size, self.codec, self.generator("rollouts")
            )
        self.stopwatch.count("sample", int(rollouts.tokens.completion_mask.sum()))
        self.log_dict(self.sampler.metrics())
        return _of_version(rollouts, self.models.policy.version())

    def policy_logprobs(self, tokens: TokenBatch) -> Tensor:
        """Log-probabilities under the policy as it samples now, ``[N, T]``; without gradient."""
        with self.stopwatch("logprobs", int(tokens.attention_mask.sum())):
            return self.models.policy.score(tokens, self.max_tokens_per_microbatch, self.sampler.temperature).logprobs

    def unlikely(self, tokens: TokenBatch) -> str:
        """Which traces the policy gives a log-probability that is not finite."""
        return culprits("log-probability", self.policy_logprobs(tokens), tokens, self.codec)

    def log_update(self, player: str, update: Update) -> None:
        """Log what one update of a player did."""
        self.log_dict(
            {
                f"{player}/loss": update.loss,
                f"{player}/gradient_norm": update.gradient_norm,
                f"{player}/update_norm": update.update_norm,
                f"{player}/learning_rate": update.learning_rate,
            }
        )

    # Evaluation ------------------------------------------------------------------------------------------------

    def validation_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """Greedy pass@1 and the experts' log-likelihood: the selection split in ``fit``, the test split otherwise."""
        split = "selection" if self.trainer.state.fn == "fit" else "test"
        return self.evaluate_batch(batch, split)

    def test_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """Greedy pass@1 and the experts' log-likelihood on the test split."""
        return self.evaluate_batch(batch, "test")

    def predict_step(self, batch: TrainBatch, batch_idx: int) -> list[dict[str, str]]:
        """The policy's greedy answer to each prompt."""
        texts = self.greedy(batch).texts
        return [
            {"id": demonstration.id, "prompt": demonstration.prompt, "completion": text}
            for demonstration, text in zip(batch.demonstrations, texts, strict=True)
        ]

    @property
    def grader(self) -> Grader:
        """What is right, by the data's own measure; exact for a data module that has none."""
        return getattr(self.trainer.datamodule, "grader", None) or Exact()  # type: ignore[attr-defined]

    def greedy(self, batch: TrainBatch) -> Rollouts:
        """The most probable completion of each prompt, token by token."""
        return self.sampler.sample(
            self.models.policy, batch.prompts, 1, self.codec, self.generator("greedy"), temperature=0.0
        )

    def evaluate_batch(self, batch: TrainBatch, split: str) -> dict[str, Tensor]:
        """Log and return ``{split}/pass@1``, ``{split}/format_rate`` and ``{split}/log_likelihood`` (nats a token)."""
        texts = self.greedy(batch).texts
        pairs = zip(texts, batch.demonstrations, strict=True)
        right = [self.grader(extract_answer(text), demonstration) is Grade.RIGHT for text, demonstration in pairs]
        logprobs_NT = self.models.policy.score(batch.experts, self.max_tokens_per_microbatch).logprobs
        metrics = {
            f"{split}/pass@1": torch.tensor(right, dtype=torch.float32).mean(),
            f"{split}/format_rate": torch.tensor([parse_completion(t).well_formed for t in texts]).float().mean(),
            f"{split}/log_likelihood": masked_mean(logprobs_NT, batch.experts.completion_mask).cpu(),
        }
        self.log_dict(metrics, batch_size=len(batch), prog_bar=True, on_epoch=True, on_step=False, sync_dist=True)
        return metrics

    # Checkpoints -----------------------------------------------------------------------------------------------

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Adapters and heads only, as ``<role>.<name>``: nothing of the frozen base."""
        if self.pair is None:
            return {}
        states = {role: self.pair.adapter_state(role) for role in self.pair.roles}
        return {f"{role}.{name}": tensor for role, state in states.items() for name, tensor in state.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counters, the identity of the base the adapters belong to, and what the reward is made of."""
        checkpoint[STATE_KEY] = {
            "clock": self.clock.state_dict(),
            "base": self.models.base_fingerprint,
            "artefact": self.artefact(),
        }

    def parts(self) -> dict[str, object]:
        """What a checkpoint describes by class and fields."""
        return {"pair": self.pair_spec}

    def artefact(self) -> dict[str, Any]:
        """What somebody needs besides the weights to use them, as plain values; loading compares both fingerprints.

        Where a component of the user's own is no dataclass, ``undescribed`` says so in the place of the parts.
        """
        identity = {
            "format": FORMAT,
            "version": __version__,
            "commit": self.commit,
            "base": self.models.base_fingerprint,
            "codec": self.codec.fingerprint,
            "trained_on": self.trained_on,
        }
        try:
            return {**identity, **{name: described(part) for name, part in self.parts().items()}}
        except ConfigError as error:
            return {**identity, "undescribed": str(error)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counters; the tensors follow in :meth:`load_state_dict`.

        Raises:
            CheckpointError: if it is not a checkpoint of ours or belongs to another base.
        """
        if STATE_KEY not in checkpoint:
            raise CheckpointError(
                "This checkpoint was not written by rairl_lightning.",
                expected=f"a key {STATE_KEY!r}",
                got=sorted(checkpoint),
                remedy="name a checkpoint from the checkpoints folder of a run",
            )
        saved = checkpoint[STATE_KEY]
        if saved["base"] != self.models.base_fingerprint:
            raise CheckpointError(
                "The adapters in this checkpoint belong to another base model.",
                expected=self.models.base_fingerprint,
                got=saved["base"],
                remedy="use the configuration the checkpoint was trained with (config.yaml in its run folder)",
            )
        self.clock = Clock.from_state(saved["clock"])

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load adapters and heads.

        Raises:
            CheckpointError: if a trainable tensor is missing, unexpected or of another shape.
        """
        self.models.load_roles(state_dict)
        return torch.nn.modules.module._IncompatibleKeys([], [])


def _of_version(rollouts: Rollouts, version: str) -> Rollouts:
    """Rollouts that say which weights drew them; those of other weights than ``version`` are refused."""
    if rollouts.version not in (None, version):
        raise TrainingError(
            "The sampler has drawn from weights that are not the policy's of now.",
            expected=f"version {version}",
            got=f"version {rollouts.version}",
            remedy="a sampler with weights of its own must take them from the policy it is given (Policy.version)",
        )
    return replace(rollouts, version=version)
