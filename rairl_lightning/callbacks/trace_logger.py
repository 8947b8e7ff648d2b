"""Sample traces with their rewards, to be read by people."""

from __future__ import annotations

import json
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.periodic import PeriodicEvaluation, answered_by
from rairl_lightning.module import RAIRL


class TraceLogger(PeriodicEvaluation):
    """Appends sampled traces to ``traces.jsonl`` in the run folder, and shows them in TensorBoard.

    ``reward`` is the learned one, null for a baseline.

    Args:
        every_n_rounds: rounds between two samplings, >= 1.
        questions: traces each time, one a question, >= 1.
        seed: of the samples.
    """

    def __init__(self, every_n_rounds: int = 50, questions: int = 4, seed: int = 0) -> None:
        super().__init__(every_n_rounds, questions)
        self.seed = seed

    def evaluate(self, trainer: Trainer, module: RoundsModule, split: str) -> dict[str, float]:
        """Write the traces; nothing to log as a number."""
        examples = self.examples(trainer, split)
        answered = answered_by(module, examples, 1, seed=self.seed)
        rewards = [None] * len(examples)
        if isinstance(module, RAIRL):
            rewards = [round(reward, 4) for reward in module.trace_rewards(answered.rollouts.tokens).tolist()]
        rows = [
            {
                "round": module.clock.round,
                "split": split,
                "id": example.id,
                "prompt": example.prompt,
                "completion": text,
                "finished": finished,
                "reward": reward,
                "correct": correct,
            }
            for example, text, finished, reward, (correct,) in zip(
                examples,
                answered.rollouts.texts,
                answered.rollouts.finished.tolist(),
                rewards,
                answered.correct_QN.tolist(),
                strict=True,
            )
        ]
        if trainer.is_global_zero:
            self._write(trainer, rows)
        return {}

    def _write(self, trainer: Trainer, rows: list[dict]) -> None:
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "traces.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        text = "\n\n---\n\n".join(
            f"**{row['id']}** {_judged(row)}\n\n{row['prompt']}\n\n```\n{row['completion']}\n```" for row in rows
        )
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("traces", text, global_step=rows[0]["round"])


def _judged(row: dict) -> str:
    paid = "" if row["reward"] is None else f"reward {row['reward']:+.2f}, "
    return paid + ("right" if row["correct"] else "wrong")
