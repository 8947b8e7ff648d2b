"""The built-in task: word problems about dials that wrap around from 9 to 0, made from a seed.

Needs no download and is learnable by a model of half a million parameters: values are single digits, so the
arithmetic is a few hundred facts; what must be learnt besides is *which* sentences matter (protagonists and
bystanders have different names) and in which order. Expert traces have one line a step.

Train, selection and test problems are disjoint twice over: by problem (the chain of values and operations) and by
template (the combination of opening, verb and closing of a sentence). Not in the paper.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import Demonstration

PROTAGONISTS = ("Ann", "Mia", "Zoe", "Eva", "Ida", "Uma")
BYSTANDERS = ("Ben", "Leo", "Max", "Sam", "Tom", "Gus")
OPENINGS = ("", "Then ", "Next ", "Later ", "At noon ", "After that ")
CLOSINGS = ("", " slowly", " again", " at home", " for luck", " with care")
OPERANDS = {"+": range(1, 10), "-": range(1, 10), "*": range(2, 4)}
# verb as quoted in the trace, sentence around the operand, operator
VERBS = (
    ("raises", "raises the dial by {k}", "+"),
    ("adds", "adds {k} to the dial", "+"),
    ("lifts", "lifts the dial {k} up", "+"),
    ("advances", "advances the dial by {k}", "+"),
    ("lowers", "lowers the dial by {k}", "-"),
    ("takes", "takes {k} from the dial", "-"),
    ("drops", "drops the dial {k} down", "-"),
    ("rewinds", "rewinds the dial by {k}", "-"),
    ("multiplies", "multiplies the dial by {k}", "*"),
    ("scales", "scales the dial {k} times", "*"),
)
Template = tuple[str, int, str]  # opening, index of the verb, closing
Move = tuple[Template, int]
PATIENCE = 1000  # draws in a row that may repeat a chain before there are taken to be no others
SPLIT_SHARES = (("train", 0.7), ("selection", 0.15), ("test", 0.15))


def apply_operator(value: int, operator: str, operand: int) -> int:
    """One turn of the dial, modulo 10.

    >>> apply_operator(8, "+", 5), apply_operator(2, "-", 5), apply_operator(4, "*", 3)
    (3, 7, 2)
    """
    results = {"+": value + operand, "-": value - operand, "*": value * operand}
    return results[operator] % 10


def split_of(key: str) -> str:
    """The split that owns ``key``; a stable hash, so that it never depends on a seed or a session."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    for name, width in SPLIT_SHARES[:-1]:
        if share < width:
            return name
        share -= width
    return SPLIT_SHARES[-1][0]


@cache
def templates_of(split: str) -> tuple[Template, ...]:
    """All (opening, verb index, closing) that only ``split`` may use."""
    combinations = [(o, v, c) for o in OPENINGS for v in range(len(VERBS)) for c in CLOSINGS]
    return tuple(item for item in combinations if split_of(f"template {item}") == split)


@dataclass(frozen=True)
class Problem:
    """A protagonist, a start value and the operations as (template, operand) pairs."""

    name: str
    start: int
    moves: tuple[Move, ...]

    @property
    def chain(self) -> str:
        """What makes two problems the same: values and operators, not wording."""
        return f"{self.start} " + " ".join(f"{VERBS[template[1]][2]}{k}" for template, k in self.moves)

    def steps(self) -> Iterator[tuple[str, int, int, str, int]]:
        """(verb, operand, value before, operator, value after) of each step."""
        value = self.start
        for template, operand in self.moves:
            verb, _, operator = VERBS[template[1]]
            after = apply_operator(value, operator, operand)
            yield verb, operand, value, operator, after
            value = after


def sentence(name: str, move: Move) -> str:
    """One sentence of a prompt."""
    (opening, verb, closing), operand = move
    return f"{opening}{name} {VERBS[verb][1].format(k=operand)}{closing}."


def draw_move(rng: random.Random, split: str) -> Move:
    """One operation in words that belong to ``split``."""
    template = rng.choice(templates_of(split))
    return template, rng.choice(OPERANDS[VERBS[template[1]][2]])


def draw_problem(rng: random.Random, split: str, min_steps: int, max_steps: int) -> Problem:
    """A problem whose chain and templates both belong to ``split``."""
    while True:
        count = rng.randint(min_steps, max_steps)
        moves = tuple(draw_move(rng, split) for _ in range(count))
        problem = Problem(rng.choice(PROTAGONISTS), rng.randint(0, 9), moves)
        if split_of(f"chain {problem.chain}") == split:
            return problem


def write_prompt(rng: random.Random, split: str, problem: Problem, distractors: int) -> tuple[str, list[Move]]:
    """The problem in words, with ``distractors`` sentences about a bystander's dial mixed in, and those moves."""
    name, other = problem.name, rng.choice(BYSTANDERS)
    body = [sentence(name, move) for move in problem.moves]
    extra = [draw_move(rng, split) for _ in range(distractors)]
    for move in extra:
        body.insert(rng.randint(0, len(body)), sentence(other, move))
    starts = [f"The dial of {name} is at {problem.start}.", f"The dial of {other} is at {rng.randint(0, 9)}."]
    return " ".join([*rng.sample(starts, k=2), *body, f"Where is the dial of {name}?"]), extra


def write_reasoning(problem: Problem) -> str:
    """The expert's trace, one step a line: ``Ann raises 3: 4 + 3 = 7``."""
    lines = (f"{problem.name} {verb} {k}: {value} {op} {k} = {after}" for verb, k, value, op, after in problem.steps())
    return "\n".join(lines)


@dataclass(frozen=True)
class Arithmetic(DemonstrationSource):
    """Dial problems generated from a seed; see the module docstring."""

    train_size: int = 512
    """Expert demonstrations to learn from."""
    selection_size: int = 128
    """Problems for choosing epochs and thresholds."""
    test_size: int = 256
    """Problems that nothing is chosen on."""
    min_steps: int = 3
    """Fewest operations of a problem, at least 1."""
    max_steps: int = 4
    """Most operations of a problem."""
    max_distractors: int = 2
    """Most sentences about the bystander; each problem has at least one."""
    seed: int = 0
    """Seed of the generator."""

    SPLITS: ClassVar[tuple[str, ...]] = tuple(name for name, _ in SPLIT_SHARES)

    def __post_init__(self) -> None:
        if not 1 <= self.min_steps <= self.max_steps or self.max_distractors < 1:
            raise ConfigError(
                "The arithmetic task cannot be generated with these settings.",
                expected="1 <= min_steps <= max_steps and max_distractors >= 1",
                got=f"min_steps={self.min_steps}, max_steps={self.max_steps}, max_distractors={self.max_distractors}",
            )

    def splits(self) -> Splits:
        """Generate the three splits; the same seed always gives the same problems."""
        sizes = (self.train_size, self.selection_size, self.test_size)
        return Splits(*(tuple(self.generate(name, size)) for name, size in zip(self.SPLITS, sizes, strict=True)))

    def generate(self, split: str, size: int) -> Iterator[Demonstration]:
        """Yield ``size`` demonstrations of ``split``, no chain twice.

        Raises:
            ConfigError: if there are not that many.
        """
        rng = random.Random(f"{self.seed} {split}")
        seen: set[str] = set()
        while len(seen) < size:
            draws = (draw_problem(rng, split, self.min_steps, self.max_steps) for _ in range(PATIENCE))
            problem = next((drawn for drawn in draws if drawn.chain not in seen), None)
            if problem is None:
                raise ConfigError(
                    f"The arithmetic task has too few different {split} problems.",
                    expected=f"{split}_size = {size} or more",
                    got=f"about {len(seen)} with max_steps={self.max_steps}",
                    remedy=f"raise max_steps or lower {split}_size",
                )
            seen.add(problem.chain)
            prompt, _ = write_prompt(rng, split, problem, rng.randint(1, self.max_distractors))
            *_, (_, _, _, _, answer) = problem.steps()
            yield Demonstration(f"{split}-{len(seen) - 1}", prompt, write_reasoning(problem), str(answer))
