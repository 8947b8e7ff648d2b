"""Traces of one's own to rerank: a policy answers the questions of a data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from rairl_lightning.components.description import REWARD_FILE
from rairl_lightning.data.demonstrations import DemonstrationSource
from rairl_lightning.data.traces import AsIs, TraceFile
from rairl_lightning.errors import CheckpointError
from rairl_lightning.evaluation.reranking.plan import ROWS, Sampling
from rairl_lightning.evaluation.trained import TrainedReward
from rairl_lightning.models.exports import load_policy_alone
from rairl_lightning.models.pair import ModelPair
from rairl_lightning.rollouts import SharedPrefixSampler
from rairl_lightning.types import Demonstration


def sample_to_file(
    path: Path, reward: TrainedReward, questions: Sequence[Demonstration], how: Sampling, seed: int
) -> Iterator[int]:
    """Write a row a trace, in a form that :func:`sampled_file` and anyone's reader takes.

    Args:
        path: JSON lines; replaced.
        reward: whose policy answers.
        questions: to answer.
        how: how.
        seed: of the samples; the same seed gives the same traces of the same policy.

    Yields:
        How many questions were answered so far.
    """
    sampler = SharedPrefixSampler(how.max_new_tokens, max_rows=ROWS)
    policy, codec = reward.models.policy, reward.codec
    generator = torch.Generator(device=policy.device).manual_seed(seed)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(questions), how.questions_at_once):
            part = questions[start : start + how.questions_at_once]
            prompts = [codec.encode_prompt(one.prompt) for one in part]
            rollouts = sampler.sample(policy, prompts, how.samples, codec, generator, temperature=how.temperature)
            finished = rollouts.finished.tolist()
            for row, text in enumerate(rollouts.texts):
                line = _row(part[row // how.samples], text, finished[row])
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            yield start + len(part)


def sampled_file(path: Path, source: DemonstrationSource, questions: Sequence[Demonstration]) -> TraceFile:
    """What reads and grades the traces that :func:`sample_to_file` wrote.

    The texts are taken as they were sampled. Whoever reads the file again may give it more of them.
    """
    names = {name for one in questions for name in one.meta} - {"category"}
    return TraceFile(str(path), meta=tuple(sorted(names)), layout=AsIs(), grader=source.grader)


def _row(question: Demonstration, text: str, finished: bool) -> dict[str, Any]:
    return {
        **question.meta,
        "question_id": question.id,
        "prompt": question.prompt,
        **({"options": list(question.options)} if question.options else {}),
        "answer": question.answer,
        "completion": text,
        "finished": finished,
    }


def load_policy(models: ModelPair, path: Path | str) -> None:
    """Put an exported policy in the place of the reward's own.

    Args:
        models: over the same base model.
        path: the adapters' folder, or the run's folder that it lies in.

    Raises:
        CheckpointError: there is no policy, or it belongs to another base model or tokenizer.
    """
    folder = Path(path)
    folder = folder / "adapters" if (folder / "adapters" / "policy").is_dir() else folder
    if not (folder / "policy").is_dir():
        raise CheckpointError(
            f"There is no policy in {path}.",
            expected="a run's folder with adapters/policy, or a folder with policy",
            got="none",
            remedy="a run writes its adapters at its end",
        )
    file = folder / REWARD_FILE
    recorded = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found = {"base": models.base_fingerprint, "codec": models.codec.fingerprint}
    for what, own in found.items():
        if recorded.get(what) not in (None, own):
            raise CheckpointError(
                f"The policy in {folder} belongs to another {'base model' if what == 'base' else 'tokenizer'}.",
                expected=f"{what} {own}",
                got=f"{what} {recorded[what]}",
                remedy="take a policy of the model that the reward was trained on",
            )
    load_policy_alone(models, folder)
