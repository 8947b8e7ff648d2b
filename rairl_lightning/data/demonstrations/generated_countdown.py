"""Countdown puzzles made from a seed: solvable by construction, each with a short derivation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from rairl_lightning.data.demonstrations.arithmetic import PATIENCE, split_of
from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits
from rairl_lightning.data.demonstrations.countdown import countdown_prompt
from rairl_lightning.errors import ConfigError
from rairl_lightning.text.graders import CountdownExpression, Grader
from rairl_lightning.types import Demonstration

Term = tuple[int, str]  # value, how it is written


@dataclass(frozen=True)
class GeneratedCountdown(DemonstrationSource):
    """Puzzles from a seed; numbers of a split's puzzles, whatever the target and order, are in no other split.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.GeneratedCountdown, init_args: {seed: 1}}

    Attributes:
        train_size: demonstrations to learn from, at least 1.
        selection_size: puzzles for choosing.
        test_size: puzzles that nothing is chosen on.
        min_numbers: fewest numbers of a puzzle, at least 2.
        max_numbers: most numbers of a puzzle.
        largest: greatest number and greatest target, at least 4.
        seed: seed of the generator.
        grader: how answers are graded.
    """

    train_size: int = 1000
    selection_size: int = 128
    test_size: int = 256
    min_numbers: int = 3
    max_numbers: int = 4
    largest: int = 99
    seed: int = 0
    grader: Grader = field(default=CountdownExpression(), kw_only=True)

    def __post_init__(self) -> None:
        if not (2 <= self.min_numbers <= self.max_numbers and self.largest >= 4):
            raise ConfigError(
                "Countdown puzzles cannot be made with these settings.",
                expected="2 <= min_numbers <= max_numbers and largest >= 4",
                got=f"min_numbers={self.min_numbers}, max_numbers={self.max_numbers}, largest={self.largest}",
            )

    def splits(self) -> Splits:
        """The same seed always gives the same puzzles."""
        sizes = {"train": self.train_size, "selection": self.selection_size, "test": self.test_size}
        return Splits(*(tuple(self._generate(split, size)) for split, size in sizes.items()))

    def _generate(self, split: str, size: int) -> Iterator[Demonstration]:
        rng = random.Random(f"{self.seed} {split}")
        seen: set[tuple[int, ...]] = set()
        while len(seen) < size:
            draws = (self._draw(rng) for _ in range(PATIENCE))
            drawn = next((d for d in draws if (key := tuple(sorted(d))) not in seen and _owner(key) == split), None)
            if drawn is None:
                raise ConfigError(
                    f"Countdown has too few different {split} puzzles.",
                    expected=f"{split}_size = {size} or more",
                    got=f"about {len(seen)} with largest={self.largest}",
                    remedy=f"raise largest or max_numbers, or lower {split}_size",
                )
            if made := derive(drawn, rng, self.largest):
                seen.add(tuple(sorted(drawn)))
                yield _demonstration(f"countdown-{split}-{len(seen) - 1}", drawn, *made)

    def _draw(self, rng: random.Random) -> list[int]:
        count = rng.randint(self.min_numbers, self.max_numbers)
        return [rng.randint(1, self.largest) for _ in range(count)]


def derive(numbers: list[int], rng: random.Random, largest: int) -> tuple[list[str], Term] | None:
    """Combine numbers, two at a time, until one is left.

    Args:
        numbers: at least two.
        rng: chooses which, and how.
        largest: of the result; what comes between may be ten times greater.

    Returns:
        The steps, and the result with its expression; None if it became too great.
    """
    terms: list[Term] = [(number, str(number)) for number in numbers]
    steps = []
    while len(terms) > 1:
        rng.shuffle(terms)
        (a, left), (b, right), *terms = sorted(terms[:2], reverse=True) + terms[2:]
        results = {"+": a + b, "-": a - b, "*": a * b} | ({"/": a // b} if b > 1 and a % b == 0 else {})
        fitting = [(sign, value) for sign, value in results.items() if 0 < value <= 10 * largest]
        if not fitting:
            return None
        sign, value = rng.choice(fitting)
        steps.append(f"{a} {sign} {b} = {value}")
        terms.append((value, f"{_bracketed(left)} {sign} {_bracketed(right)}"))
    return (steps, terms[0]) if terms[0][0] <= largest else None


def _bracketed(expression: str) -> str:
    return f"({expression})" if " " in expression else expression


def _owner(numbers: tuple[int, ...]) -> str:
    return split_of(f"countdown {numbers}")


def _demonstration(id: str, numbers: list[int], steps: list[str], made: Term) -> Demonstration:
    target, expression = made
    meta = {"numbers": " ".join(map(str, numbers)), "target": str(target)}
    return Demonstration(id, countdown_prompt(numbers, target), "\n".join(steps), expression, meta)
