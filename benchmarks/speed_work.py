"""What one process is asked to do, and what it says.

Files that both sides read and write, so that neither loads the other: standard library alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

TINY_TOKENS = 8  # new tokens of the round before the clock starts, which pays for what is done once


@dataclass(frozen=True)
class Question:
    """A prompt with its demonstration.

    Attributes:
        id: unique.
        prompt: as the user asks it.
        reasoning: the expert's.
        answer: the expert's.
        prompt_ids: of the templated prompt.
        completion_ids: of the demonstration, end of turn included.
    """

    id: str
    prompt: str
    reasoning: str
    answer: str
    prompt_ids: list[int]
    completion_ids: list[int]


@dataclass(frozen=True)
class Work:
    """The same for both sides.

    Attributes:
        algorithm: ``grpo``, ``sft``, ``rairl`` or ``sampling``.
        model: folder.
        questions: B prompts of a round, or the batch of SFT.
        system_prompt: put before every prompt; None leaves the template's own.
        group_size: samples a prompt, G.
        new_tokens: most a completion may have.
        forced: whether every completion has exactly so many.
        rounds: timed rounds, or steps.
        rank: of LoRA, on all linear layers; alpha is twice that.
        learning_rate: of every player.
        kl: coefficient of the KL to the reference; 0 leaves out the reference's pass.
        microbatch_tokens: of ours.
        microbatch_rows: of TRL's.
        checkpointing: whether activations are computed again in the backward pass.
        quantisation: ``nf4`` or None; of ours alone.
        device: ``cpu`` (float32) or ``cuda`` (bfloat16 mixed precision).
        sampler: class path, ours.
        sampler_arguments: beside ``max_new_tokens``.
        threads: of the process.
        seed: of weights and sampling.
    """

    algorithm: str
    model: str
    questions: list[Question]
    system_prompt: str | None = None
    group_size: int = 4
    new_tokens: int = 128
    forced: bool = True
    rounds: int = 1
    rank: int = 16
    learning_rate: float = 1e-5
    kl: float = 0.0
    microbatch_tokens: int = 1024
    microbatch_rows: int = 4
    checkpointing: bool = False
    quantisation: str | None = None
    device: str = "cpu"
    sampler: str = "rairl_lightning.rollouts.SharedPrefixSampler"
    sampler_arguments: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    seed: int = 0

    @property
    def traces(self) -> int:
        """B·G."""
        return len(self.questions) * self.group_size

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """What :meth:`write` wrote."""
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**{**values, "questions": [Question(**one) for one in values["questions"]]})


@dataclass(frozen=True)
class Result:
    """What a process measured; a list has an entry a timed round.

    Attributes:
        seconds: of a whole round, the data's loading left out.
        phases: seconds by phase.
        generated: completion tokens sampled.
        trained: real tokens that were learnt from, prompt and completion, counted once.
        trained_completion: of these, the completions'.
        lengths: of every sampled completion, in tokens.
        resident_mb: most memory of the process, in MB.
        device_mb: most memory on the accelerator, in MB; None without.
        versions: of the side's packages.
    """

    seconds: list[float]
    phases: dict[str, list[float]]
    generated: list[int]
    trained: list[int]
    trained_completion: list[int]
    lengths: list[list[int]]
    resident_mb: float
    device_mb: float | None
    versions: dict[str, str]

    def write(self, path: Path | str) -> None:
        """As JSON."""
        Path(path).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """What :meth:`write` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))

    @property
    def memory_mb(self) -> float:
        """The accelerator's where there is one, else the process's."""
        return self.resident_mb if self.device_mb is None else self.device_mb

    @property
    def generated_per_second(self) -> float:
        """Completion tokens sampled a second of whole rounds."""
        return sum(self.generated) / sum(self.seconds)

    @property
    def trained_per_second(self) -> float:
        """Tokens learnt from a second of whole rounds."""
        return sum(self.trained) / sum(self.seconds)

    def rate(self, phase: str, tokens: list[int]) -> float:
        """Tokens a second of one phase."""
        return sum(tokens) / sum(self.phases[phase])
