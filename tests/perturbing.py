"""What the tests of perturbations share: data, calls over many seeds, and what a span must be."""

import gzip
import json
import random
from functools import cache
from pathlib import Path
from string import ascii_uppercase

import pytest

from rairl_lightning.data.demonstrations import GSM8K, Arithmetic
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.perturbations import (
    BorrowedStep,
    CarriedSlip,
    DirectionFlip,
    DroppedStep,
    Negation,
    NudgedAnswer,
    NumberCorruption,
    OperatorFlip,
    ReorderedSteps,
    StrayOperand,
    SwappedOperands,
    SwappedOption,
    SwappedQuantities,
    WrongEntity,
    WrongOperand,
)
from rairl_lightning.types import Demonstration

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CARRIED = (CarriedSlip(), StrayOperand(), WrongOperand())
MOVED = (DroppedStep(), ReorderedSteps())
"""Their span is where the error shows, not all that differs."""
LOCAL = (
    BorrowedStep(),
    DirectionFlip(),
    Negation(),
    NudgedAnswer(),
    NumberCorruption(),
    OperatorFlip(),
    SwappedOperands(),
    SwappedQuantities(),
    WrongEntity(),
)
"""Outside of their span nothing is changed."""
KINDS = (*LOCAL, *CARRIED, *MOVED, SwappedOption())


def demo(reasoning, answer="9", prompt="q", name="a"):
    return Demonstration(name, prompt, reasoning, answer)


def tries(perturbation, reasoning, answer="9", prompt="q", others=(), count=60):
    """The different outcomes over many seeds."""
    one = demo(reasoning, answer, prompt)
    return {perturbation(one, random.Random(seed), others) for seed in range(count)}


def rendered(one):
    return render_completion(one.reasoning, one.answer)


def spanned(corruption):
    return rendered(corruption)[slice(*corruption.span)]


def assert_only_the_span_changed(before, corruption):
    """The span holds the new characters; what is around it is the old text, and both ends of it are new."""
    after = rendered(corruption)
    start, end = corruption.span
    tail = len(after) - end
    old = before[start : len(before) - tail]
    assert before[:start] == after[:start] and before[len(before) - tail :] == after[end:]
    assert 0 <= start < end <= len(after) and old != after[start:end]
    assert old[:1] != after[start] and old[-1:] != after[end - 1]
    return old, after[start:end]


def with_others(demonstrations, width=15):
    """Each demonstration with the next ones, as in a round's batch."""
    around = [*demonstrations, *demonstrations[:width]]
    return [(one, around[row + 1 : row + 1 + width]) for row, one in enumerate(demonstrations)]


def corruptions(perturbation, demonstrations):
    """``(demonstration, corruption or None)`` of each, one seed an id."""
    return [(one, perturbation(one, random.Random(one.id), others)) for one, others in with_others(demonstrations)]


@cache
def gsm8k(count=500):
    _skip_without("gsm8k")
    return GSM8K(str(SHARED / "gsm8k"), selection_fraction=0.0, train_limit=count).splits().train


@cache
def dials(count=200):
    return Arithmetic(train_size=count, selection_size=1, test_size=1).splits().train


@cache
def mmlu_pro(count=500):
    _skip_without("mmlu_pro")
    with gzip.open(SHARED / "mmlu_pro" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        return _questions(map(json.loads, lines), count)


@cache
def medreason(count=500):
    _skip_without("medreason")
    with (SHARED / "medreason" / "train.jsonl").open(encoding="utf-8") as lines:
        return _questions(map(json.loads, lines), count)


def _questions(rows, count):
    """Every so manieth question, with its options listed under it."""
    rows = list(rows)
    kept = rows[:: max(1, len(rows) // count)][:count]
    return tuple(
        demo(row["reasoning"], row["answer"], f"{row['question']}\n{_listed(row['options'])}", f"{place}")
        for place, row in enumerate(kept)
    )


def _listed(options):
    return "\n".join(f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False))


def _skip_without(name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"the real data is not at {SHARED / name}")
