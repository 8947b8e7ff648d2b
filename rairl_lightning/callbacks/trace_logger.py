"""Sample traces with their rewards, to be read by people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Trainer

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.periodic import PeriodicEvaluation, answered_by
from rairl_lightning.callbacks.showing import show_text
from rairl_lightning.evaluation.run_folder import TOKEN_REWARDS, TRACES, append_rows
from rairl_lightning.evaluation.token_rows import token_rows
from rairl_lightning.module import RAIRL
from rairl_lightning.types import Demonstration, TokenBatch

Row = dict[str, Any]
SHOWN = ("id", "source", "reward", "correct", "prompt", "completion")
FENCE = "~" * 8  # longer than what a trace may hold itself


class TraceLogger(PeriodicEvaluation):
    """Appends sampled traces to ``traces.jsonl`` in the run folder, and shows them beside the experts' as ``traces``.

    The text ``traces`` goes to every logger that takes texts (TensorBoard, Weights & Biases). ``token_rewards.jsonl``
    has the same traces and the experts' to the same questions, with every token's reward and log-probability. The
    reward is the learned one, null for a baseline.

    Args:
        every_n_rounds: rounds between two samplings, >= 1.
        questions: traces each time, one a question, >= 1.
        seed: of the samples.
    """

    appends_to = (TRACES, TOKEN_REWARDS)

    def __init__(self, every_n_rounds: int = 50, questions: int = 4, seed: int = 0) -> None:
        super().__init__(every_n_rounds, questions)
        self.seed = seed

    def evaluate(self, trainer: Trainer, module: RoundsModule, split: str) -> dict[str, float]:
        """Write the traces; nothing to log as a number."""
        examples = self.examples(trainer, split)
        answered = answered_by(module, examples, 1, seed=self.seed)
        rollouts, at = answered.rollouts, {"round": module.clock.round, "split": split}
        read = _read(module, rollouts.tokens)
        finished, correct = rollouts.finished.tolist(), answered.correct_QN[:, 0].tolist()
        columns = zip(examples, rollouts.texts, finished, read, correct, strict=True)
        rows = [
            {
                **at,
                "id": example.id,
                "prompt": example.prompt,
                "completion": text,
                "finished": ended,
                "reward": one["reward"],
                "correct": right,
            }
            for example, text, ended, one, right in columns
        ]
        experts = _experts(module, examples, at)  # every process takes its part in scoring them
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            append_rows(folder / TRACES, rows)
            policy = [{**row, "source": "policy", **one} for row, one in zip(rows, read, strict=True)]
            self.rows = [*policy, *experts]
            append_rows(folder / TOKEN_REWARDS, self.rows)
            shown = [row for pair in zip(experts, policy, strict=True) for row in pair]
            show_text(trainer, module, "traces", _markdown(shown), [{key: row[key] for key in SHOWN} for row in shown])
        return {}


def _read(module: RoundsModule, tokens: TokenBatch) -> list[Row]:
    """Of each trace its reward and its tokens."""
    logprobs_NT = module.models.policy.score(tokens, module.max_tokens_per_microbatch).logprobs
    if not isinstance(module, RAIRL):
        return [{"reward": None, "tokens": one} for one in token_rows(tokens, None, None, logprobs_NT)]
    rewards_NT = module.rewards(tokens)
    pooled = module.reader.pooled(rewards_NT, tokens).tolist()
    columns = token_rows(tokens, rewards_NT, module.reader.granularity(tokens), logprobs_NT)
    return [{"reward": round(value, 4), "tokens": one} for value, one in zip(pooled, columns, strict=True)]


def _experts(module: RoundsModule, examples: Sequence[Demonstration], at: Row) -> list[Row]:
    traces = [module.codec.encode_demonstration(example) for example in examples]
    read = _read(module, TokenBatch.from_traces(traces, module.codec.pad_id).to(module.device))
    texts = [module.codec.decode(trace.completion_ids) for trace in traces]
    return [
        {**at, "id": e.id, "prompt": e.prompt, "completion": text, "correct": None, "source": "expert", **one}
        for e, text, one in zip(examples, texts, read, strict=True)
    ]


def judged(row: Row) -> str:
    """What is known of a trace: its reward, and whether its answer is right.

    >>> judged({"reward": 0.5, "correct": False}), judged({"reward": None, "correct": None})
    ('reward +0.50 · wrong', 'no reward')
    """
    paid = "no reward" if row["reward"] is None else f"reward {row['reward']:+.2f}"
    return paid if row["correct"] is None else f"{paid} · {'right' if row['correct'] else 'wrong'}"


def _markdown(rows: Sequence[Row]) -> str:
    """Expert and policy by turns, under their question."""
    parts = []
    for row in rows:
        if row["source"] == "expert":
            question = "\n".join(f"> {line}" for line in row["prompt"].splitlines())
            parts.append(f"### {row['id']}\n\n{question}")
        parts.append(f"**{row['source'].capitalize()}** · {judged(row)}\n\n{FENCE}\n{row['completion']}\n{FENCE}")
    return "\n\n".join(parts)
