"""Texts to compare two models on: what the run itself sampled, else a few of ours."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from rairl_lightning.errors import ModelError
from rairl_lightning.evaluation import run_folder
from rairl_lightning.exporting.snippet import COMPLETION, QUESTION
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.reporting.files import Notes, read_rows
from rairl_lightning.text.chat import render_completion
from rairl_lightning.types import TokenBatch

TEXTS = 16
OWN = (
    (QUESTION, COMPLETION),
    (QUESTION, render_completion("12 + 30 = 41\nSo it is 41.", "41")),
    ("A box holds 6 eggs. How many eggs are in 4 boxes?", render_completion("6 eggs in each of 4 boxes", "24")),
    ("What is left of 90 after a third of it is gone?", "<think>\n90 / 3 = 30\n90 - 30"),
)


def run_of(path: Path) -> Path:
    """The run's folder of a run, a checkpoint in it, or its adapters.

    >>> [run_of(Path(f"runs/x/{name}")).as_posix() for name in ("checkpoints/last.ckpt", "adapters", "one.ckpt")]
    ['runs/x', 'runs/x', 'runs/x']
    """
    inside = path.parent if path.suffix == ".ckpt" else path
    return inside.parent if inside.name in ("checkpoints", "adapters") else inside


def compared_texts(run: Path, codec: TraceCodec, context: int | None) -> TokenBatch:
    """The last distinct traces that a run logged; ours where it logged none that can be read.

    Args:
        run: its folder.
        codec: of the models.
        context: tokens that they read; longer traces are left out.

    Raises:
        ModelError: all are longer.
    """
    logged = [
        (row["prompt"], row["completion"], row.get("finished"))
        for row in read_rows(run / run_folder.TRACES, Notes())
        if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)
    ]
    distinct = dict.fromkeys(reversed(logged))
    for texts in (distinct, [(*text, None) for text in OWN]):
        traces = (codec.encode_trace(*text)[0] for text in texts)
        fitting = (one for one in traces if one.completion_ids and (context is None or len(one) <= context))
        if chosen := list(islice(fitting, TEXTS)):
            return TokenBatch.from_traces(chosen, codec.pad_id)
    raise ModelError("No text fits into the model's context.", expected="64 tokens or more", got=context)
