"""A run's folder written by hand: every file that a report reads, with hostile texts in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

HOSTILE = "<script>alert('x')</script>\x1b[31m\u202e"
TEXT = f"<think>\n2 + 2 = 4\nso {HOSTILE}\n</think>\n<answer>\n4\n</answer>"
BEST = [0.75, 0.7, 0.8]


def cut(text: str, size: int = 4) -> dict[str, Any]:
    """Tokens of four characters whose rewards go from -1 to 1."""
    offsets = [[start, min(start + size, len(text))] for start in range(0, len(text), size)]
    last = len(offsets) - 1
    rewards = [round(2 * place / last - 1, 4) for place in range(len(offsets))]
    return {"offsets": offsets, "reward": rewards, "grid": [1] * len(offsets), "logprob": [-0.25] * len(offsets)}


def trace(id: str, reward: float, correct: bool | None = True, source: str = "policy", text: str = TEXT) -> Any:
    at = {"round": 2, "split": "selection", "id": id, "source": source, "prompt": f"what? {HOSTILE}"}
    return {**at, "completion": text, "reward": reward, "correct": correct, "tokens": cut(text)}


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(folder: Path, rounds: int = 12) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(f"seed_everything: 0\nmodel:\n  rounds: {rounds}\n  name: '<b>bold</b>'\n")
    with SummaryWriter(str(folder / "logs" / "version_0")) as writer:
        for step in range(30):
            writer.add_scalar("sft/loss" if step < 10 else "discriminator/loss", 1 / (step + 1), step)
            if step >= 10:
                writer.add_scalar("round", max(0, step - 19), step)
            if step >= 20:
                writer.add_scalar("reward/mean", step / 10, step)
    reads = [trace(f"q{n}", n / 10, correct=n % 2 == 0) for n in range(8)]
    lines(folder / "token_rewards.jsonl", [*reads, *(trace(f"q{n}", 1.5, None, "expert") for n in range(8))])
    start = TEXT.index("4")
    hit = {"reward": {"token": True, "step": True}, "logprob_drop": {"token": False, "step": False}}
    predicted = {"reward": [start, start + 4], "logprob_drop": None}
    pair = {"id": "p0", "kind": "NumberCorruption", "prompt": "what?", "completion": TEXT, "clean": f"clean {HOSTILE}"}
    lines(
        folder / "localisation.jsonl",
        [{**pair, "changed": [start, start + 1], "predicted": predicted, "hit": hit, "tokens": cut(TEXT)}],
    )
    curve = [{"probability": 0.4, "right": [0.5, 0.4, 0.6]}, {"probability": 0.8, "right": BEST}]
    rules = {"reward": BEST, "random": [0.5, 0.45, 0.55]}
    at = {"round": 12, "split": "selection", "questions": 48}
    lines(
        folder / "reranking.jsonl",
        [{**at, "best_of": {"2": rules, "8": rules}, "auroc": 0.7, "reliability": {"curve": curve}}],
    )
    collapse = {"round": 5, "restored": 3, "signs": f"FormatRate {HOSTILE}"}
    health = {"outcome": "recovered", "rounds": 12, "policy_rate_factor": 0.3, "collapses": [collapse], "warnings": []}
    (folder / "health.json").write_text(json.dumps(health))
    feature = {"feature": "length", "auroc": 0.91, "low": 0.86, "positives": 30.0, "negatives": 51.0}
    measured = {"after_rounds": 0, "comparison": "before", "features": [feature], "leaks": ["length"]}
    (folder / "leaks.json").write_text(json.dumps({"threshold": 0.8, "measurements": [measured]}))
    summary = {"pass@1": {"sft": {"sampled": BEST}}, "best_of_16": rules, "hit@1": {"reward": {"step": BEST}}}
    (folder / "summary.json").write_text(json.dumps({**summary, "auroc": [0.817, 0.77, 0.86]}))
    return folder
