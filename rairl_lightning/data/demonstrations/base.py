"""What every data set gives: disjoint splits of demonstrations."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar

from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.text.chat import TAG
from rairl_lightning.text.graders import Exact, Grader
from rairl_lightning.types import Demonstration

Asked = TypeVar("Asked")

DIGEST_BYTES = 6


@dataclass(frozen=True)
class Splits:
    """Demonstrations by use; no question is in two of them.

    Attributes:
        train: the experts the reward is learned from; empty if the data set is for evaluation only.
        selection: held out of training to choose checkpoints and settings.
        test: reported once, never used to choose anything.

    Raises:
        DataError: no training demonstration and no test question, an id used twice, or a question in two splits.
    """

    train: tuple[Demonstration, ...]
    selection: tuple[Demonstration, ...] = ()
    test: tuple[Demonstration, ...] = ()

    def __post_init__(self) -> None:
        if not self.train and not self.test:
            raise DataError("There is no training demonstration, and no test question.", expected="at least 1", got=0)
        ids: set[str] = set()
        owners: dict[str, tuple[str, str]] = {}
        for name in ("train", "selection", "test"):
            for demo in getattr(self, name):
                if demo.id in ids:
                    raise DataError(f"The id {demo.id!r} is used twice.", expected="unique ids over all splits")
                ids.add(demo.id)
                other, other_id = owners.setdefault(normalised_question(demo.prompt), (name, demo.id))
                if other != name:
                    raise DataError(
                        f"The same question is in {other} (id {other_id!r}) and in {name} (id {demo.id!r}).",
                        expected="splits without a common question (case and white space aside)",
                        got=repr(demo.prompt[:80]),
                        remedy=f"remove it from {other}, or every result on {name} is a memory test",
                    )

    def to_choose_on(self, split: str) -> tuple[Demonstration, ...]:
        """The examples of a split that something is chosen, fitted or calibrated on.

        Args:
            split: ``train`` or ``selection``.

        Raises:
            ConfigError: the test split, or no split at all.
            DataError: the split is empty.
        """
        if split not in ("train", "selection"):
            raise ConfigError(
                f"Nothing may be chosen on the {split} split.",
                expected="train or selection",
                got=split,
                remedy="choose on selection; what is chosen on test is no longer measured there",
            )
        if not getattr(self, split):
            raise DataError(
                f"The {split} split is empty, so nothing can be chosen on it.", expected="at least 1", got=0
            )
        return getattr(self, split)

    def limited(self, train: int | None = None, selection: int | None = None, test: int | None = None) -> Self:
        """The first demonstrations of each split, for small runs.

        Args:
            train: how many to keep, at least 1; None keeps all.
            selection: likewise, at least 1.
            test: likewise, at least 1.

        Raises:
            ConfigError: a limit below 1.
        """
        for name, limit in (("train", train), ("selection", selection), ("test", test)):
            if limit is not None and limit < 1:
                raise ConfigError(f"{name}_limit is too small.", expected="at least 1, or null for all", got=limit)
        return type(self)(self.train[:train], self.selection[:selection], self.test[:test])


@dataclass(frozen=True)
class DemonstrationSource(ABC):
    """A data set of demonstrations; one frozen dataclass a data set, named in YAML.

    Attributes:
        grader: how its answers are graded.
    """

    grader: Grader = field(default=Exact(), kw_only=True)

    @abstractmethod
    def splits(self) -> Splits:
        """Read the data, check it strictly, and split it; the same on every machine and in every run.

        Raises:
            DataError: anything in the data that cannot be used, with its file and line.
        """


def normalised_question(question: str) -> str:
    """The text by which questions are compared: no case, single spaces."""
    return " ".join(question.casefold().split())


def check_disjoint(chosen_on: Iterable[Demonstration], reported_on: Iterable[Demonstration]) -> None:
    """Refuse a question that something is chosen on and that a result is reported on.

    Args:
        chosen_on: questions that a threshold, a temperature or a checkpoint is chosen on.
        reported_on: questions of the result.

    Raises:
        DataError: a common question, case and white space aside.
    """
    chosen = {normalised_question(demo.prompt): demo.id for demo in chosen_on}
    for demo in reported_on:
        if (other := chosen.get(normalised_question(demo.prompt))) is not None:
            raise DataError(
                f"A result would be reported on a question that it is chosen on (ids {other!r} and {demo.id!r}).",
                expected="questions to choose on and questions to report on with none in common",
                got=repr(demo.prompt[:80]),
                remedy="choose on other questions, such as the selection split",
            )


def held_out(
    demonstrations: Sequence[Demonstration], fraction: float
) -> tuple[tuple[Demonstration, ...], tuple[Demonstration, ...]]:
    """:func:`hold_out` of training demonstrations.

    Args:
        demonstrations: all training demonstrations.
        fraction: share to hold out, in [0, 1); 0 holds out nothing.

    Returns:
        ``(train, selection)``, each in the given order.

    Raises:
        ConfigError: a fraction outside [0, 1).
        DataError: fewer than two different questions to share out.
    """
    return hold_out(demonstrations, fraction, lambda one: one.prompt)


def hold_out(
    items: Sequence[Asked], fraction: float, prompt: Callable[[Asked], str], *, salt: str = ""
) -> tuple[tuple[Asked, ...], tuple[Asked, ...]]:
    """Hold a fraction of the questions out, by a hash of the question alone.

    A question is held out if its hash, uniform in [0, 1), is below ``fraction``: it stays on its side when rows are
    added, removed or reordered, and equal questions stay together. At least one question lands on each side.

    Args:
        items: what belongs to a question each.
        fraction: share to hold out, in [0, 1); 0 holds out nothing.
        prompt: the question of an item.
        salt: hashed with the question. A split of what another split left needs a salt of its own: all of a selection
            split lies below the fraction that cut it off, so the same hash would share nothing out.

    Returns:
        ``(rest, held out)``, each in the given order.

    Raises:
        ConfigError: a fraction outside [0, 1).
        DataError: fewer than two different questions to share out.
    """
    if not 0 <= fraction < 1:
        raise ConfigError("selection_fraction is out of range.", expected="0 <= fraction < 1", got=fraction)
    if fraction == 0:
        return tuple(items), ()
    hashes = [_uniform_hash(prompt(one), salt) for one in items]
    ordered = sorted(set(hashes))
    if len(ordered) < 2:
        raise DataError(
            "There are too few questions to hold some out.",
            expected="at least 2 different questions",
            got=len(ordered),
            remedy="add questions, or set selection_fraction to 0",
        )
    bound = min(max(fraction, ordered[1]), ordered[-1])  # at least the lowest hash below it, the highest not
    rest = tuple(one for one, value in zip(items, hashes, strict=True) if value >= bound)
    return rest, tuple(one for one, value in zip(items, hashes, strict=True) if value < bound)


def demonstration_from(
    record: Record,
    *,
    id: str,
    prompt: str,
    reasoning: str,
    answer: str,
    meta: dict[str, str] | None = None,
    options: Sequence[str] = (),
) -> Demonstration:
    """Build a demonstration, refusing text that would break the trace's layout.

    Raises:
        DataError: a think or answer tag inside of the reasoning or the answer.
    """
    for name, text in (("reasoning", reasoning), ("answer", answer)):
        if tag := TAG.search(text):
            raise DataError(
                f"{record.where} has a tag in its {name}.",
                expected="plain text; the tags are added when the trace is written",
                got=tag.group(),
                remedy="remove the tags from the data",
            )
    return Demonstration(
        id=id, prompt=prompt, reasoning=reasoning, answer=answer, meta=meta or {}, options=tuple(options)
    )


def question_digest(question: str, salt: str = "") -> bytes:
    """The question by 48 bits of its hash, case and white space aside; of another hash for every salt."""
    text = f"{salt}{normalised_question(question)}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()[:DIGEST_BYTES]


def _uniform_hash(question: str, salt: str) -> float:
    return int.from_bytes(question_digest(question, salt), "big") / 256**DIGEST_BYTES
