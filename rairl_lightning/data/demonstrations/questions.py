"""Reading a question from a record, whatever its fields are called: prompt, options and right answer."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.errors import DataError
from rairl_lightning.text.options import LETTERS, chosen_option, prompt_with_options
from rairl_lightning.text.perturbations.options import listed_options

PROMPTS = ("question", "prompt", "problem", "messages")
"""Fields that may hold the question, the first that is there: beside a question, a prompt is how it was asked."""

OPTIONS = ("options", "choices")
"""Fields that may hold options."""

INDICES = ("answer_index", "answer_idx")
"""Fields that may hold the right option's number, from 0, or its letter."""

_FINAL_LINE = re.compile(r"####\s*(-?[0-9][0-9,]*(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class QuestionFields:
    """A question as read.

    Attributes:
        prompt: with a line for each option.
        options: their texts, empty if the answer is free.
        answer: the right answer, of a multiple-choice question its letter; None if the record has none.
    """

    prompt: str
    options: tuple[str, ...]
    answer: str | None


def question_from(record: Record) -> QuestionFields:
    """Read a question.

    Options are a list of texts, a mapping of letters to texts, or lines ``A. text``. They are written into the prompt
    unless it lists them already.

    Raises:
        DataError: a field is missing or of the wrong kind, or the answer names no option.
    """
    question, options = prompt_of(record), options_of(record)
    if options and len(listed_options(question)) != len(options):
        question = prompt_with_options(question, options)
    return QuestionFields(question, options, answer_of(record, options))


def prompt_of(record: Record) -> str:
    """The question's text: ``question``, ``prompt``, ``problem``, or the one user turn of ``messages``.

    Raises:
        DataError: there is none, or a conversation of several turns.
    """
    name = next(filter(record.has, PROMPTS), None)
    if name != "messages":
        return record.text(name) if name else record.text("prompt", "question", "problem")
    turns = [turn if isinstance(turn, Mapping) else {} for turn in record.sequence("messages")]
    *before, last = turns
    if last.get("role") != "user" or any(turn.get("role") != "system" for turn in before):
        raise DataError(
            f"{record.where} has messages that are not one question.",
            expected="one user message, after system messages at most (which are left out: the model has its own)",
            got=", ".join(str(turn.get("role")) for turn in turns),
            remedy="put an assistant's message into the fields reasoning and answer; leave conversations out",
        )
    return Record(record.where, {"messages: content": last.get("content")}).text("messages: content")


def options_of(record: Record) -> tuple[str, ...]:
    """Texts of the options A, B, …; empty if the record has none.

    Raises:
        DataError: they cannot be read, or are fewer than two or more than 26.
    """
    name = next((name for name in OPTIONS if record.has(name)), None)
    if name is None:
        return ()
    value = record.values[name]
    if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
        value = listed_options(value)
    if isinstance(value, Mapping):
        value = _in_order(record, name, value)
    options = Record(record.where, {name: value}).texts(name)
    if not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"{record.where} has no choice.", expected=f"2 to {len(LETTERS)} options", got=len(options))
    return tuple(options)


def _in_order(record: Record, name: str, options: Mapping[str, object]) -> list[object]:
    letters = list(string.ascii_uppercase[: len(options)])
    if not options or sorted(options) != letters:
        raise DataError(
            f"{record.where} has {name} without their letters.",
            expected="a list of texts, A, B, … with their texts, or a line 'A. text' for each",
            got=", ".join(map(str, options)) or repr(record.values[name])[:80],
        )
    return [options[letter] for letter in letters]


def answer_of(record: Record, options: tuple[str, ...]) -> str | None:
    """The right answer: free text, or the letter of the right option; None if there is no such field.

    Of a solution that ends as GSM8K's do, the number in its last line.

    Raises:
        DataError: it names no option, or ``answer`` and ``answer_index`` name different ones.
    """
    if not options:
        answer = record.text("answer") if record.has("answer") else None
        return (answer and final_line(answer)) or answer
    index = _letter_at_index(record, options)
    if not record.has("answer"):
        return index
    number = isinstance(record.values["answer"], int) and index is None  # an index, or the option of that text?
    letter = None if number else chosen_option(record.text("answer"), options)
    if (letter is None and index is None) or (letter and index and letter != index):
        raise DataError(
            f"{record.where} has an answer that is none of its options.",
            expected=f"a letter up to {LETTERS[len(options) - 1]}, or an option's text"
            + (f"; answer_index says {index}" if index else ""),
            got=repr(record.values["answer"])[:80],
            remedy="a number from 0 belongs into answer_index",
        )
    return letter or index


def final_line(solution: str) -> str | None:
    r"""The number in a last line ``#### 18``, as GSM8K's solutions have it, without commas; None if there is none.

    >>> final_line("600 * 2 = 1200\n#### 1,200")
    '1200'
    """
    last = _FINAL_LINE.fullmatch(solution.rstrip().rpartition("\n")[2].strip())
    return last[1].replace(",", "") if last else None


def _letter_at_index(record: Record, options: tuple[str, ...]) -> str | None:
    name = next((name for name in INDICES if record.has(name)), None)
    if name is None:
        return None
    value = record.text(name)
    if value in LETTERS[: len(options)]:
        return value
    if not (value.isascii() and value.isdigit() and int(value) < len(options)):
        raise DataError(
            f"{record.where} has no usable {name!r}.", expected=f"0 to {len(options) - 1}, or a letter", got=repr(value)
        )
    return LETTERS[int(value)]
