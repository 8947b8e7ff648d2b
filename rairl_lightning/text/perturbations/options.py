"""Multiple choice: the conclusion names another option than the one that was argued for."""

import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rairl_lightning.text.perturbations.base import Edit, Perturbation, Rewrite, Solution, edited
from rairl_lightning.text.perturbations.words import in_case_of, word_edits

_LISTED = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_LETTER = re.compile(r"(\(?)([A-Z])(\)?[.:]?)(?:(\s+)(.+))?", re.DOTALL)

_STATED = r"\b(?i:(?:answer|option|choice)\s+is|answer)\b[:\s*$]*(?:\\boxed\{{)?(?i:option\s+)?\(?({})\b(?!['’])"


@dataclass(frozen=True)
class SwappedOption(Perturbation):
    r"""Conclude with another option, in the reasoning's last words and in the answer alike.

    The options are those that the prompt lists, a line each behind its letter (without a list: the letters A to D, or
    up to the right one). Every ``answer is (B)`` and ``Answer: B`` of the reasoning changes, with the option's text if
    it follows; without one, the last mention of the right option's text becomes the other option's. What was argued
    before stays, so the conclusion no longer follows. The answer, a letter, a text or both, becomes the other option,
    written likewise. Rejected if the answer is no option. The span is the first changed letter or text.

    >>> from rairl_lightning.types import Demonstration
    >>> demo = Demonstration("", "Which purrs?\nA. cat\nB. dog", "Cats purr. The answer is (A).", "A")
    >>> made = SwappedOption()(demo, random.Random(0))
    >>> made.reasoning, made.answer
    ('Cats purr. The answer is (B).', 'B')
    """

    changes_answer: ClassVar[bool] = True

    def rewrite(self, demonstration: Solution, rng: random.Random, others: Sequence[Solution]) -> Rewrite | None:
        """See the class."""
        options = listed_options(demonstration.prompt)
        right = _chosen(demonstration.answer.strip(), options)
        if right is None:
            return None
        letters = list(options) or [letter for letter in string.ascii_uppercase if letter <= max(right, "D")]
        wrong = rng.choice([letter for letter in letters if letter != right])
        answer = _renamed(demonstration.answer.strip(), right, wrong, options)
        edits = _conclusions(demonstration.reasoning, right, wrong, options)
        return edited(demonstration.reasoning, answer, edits) if edits else Rewrite(demonstration.reasoning, answer)


def listed_options(prompt: str) -> dict[str, str]:
    r"""Letter to text of the last list of options in a prompt, from A on without a gap; empty if there is none.

    >>> listed_options("Which purrs?\nA. cat\nB. dog")
    {'A': 'cat', 'B': 'dog'}
    """
    options: dict[str, str] = {}
    for match in _LISTED.finditer(prompt):
        letter, text = match.groups()
        if letter == "A":
            options = {}
        if letter == string.ascii_uppercase[len(options) % len(string.ascii_uppercase)]:
            options[letter] = text
    return options if len(options) > 1 else {}


def _chosen(answer: str, options: dict[str, str]) -> str | None:
    """The letter of the option that an answer names."""
    match = _LETTER.fullmatch(answer)
    if (
        match
        and (match[2] in options or not options)
        and (match[5] is None or options.get(match[2]) == match[5].strip())
    ):
        return match[2]
    return next((letter for letter, text in options.items() if text == answer), None)


def _renamed(answer: str, right: str, wrong: str, options: dict[str, str]) -> str:
    match = _LETTER.fullmatch(answer)
    if match is None or match[2] != right:
        return options[wrong]
    letter = f"{match[1]}{wrong}{match[3]}"
    return letter if match[5] is None else f"{letter}{match[4]}{options[wrong]}"


def _conclusions(reasoning: str, right: str, wrong: str, options: dict[str, str]) -> list[Edit]:
    """The letter in every statement of the answer, else the last mention of the option's text."""
    edits = []
    for match in re.finditer(_STATED.format(right), reasoning):
        edits.append(Edit(match.start(1), match.end(1), wrong))
        edits += _text_behind(reasoning, match.end(1), right, wrong, options)
    return edits or _last_mention(reasoning, right, wrong, options)


def _text_behind(reasoning: str, position: int, right: str, wrong: str, options: dict[str, str]) -> list[Edit]:
    """The option's text where it follows its letter."""
    text = options.get(right)
    behind = re.compile(rf"[).:*]*\s+({re.escape(text)})") if text else None
    match = behind.match(reasoning, position) if behind else None
    return [Edit(match.start(1), match.end(1), options[wrong])] if match else []


def _last_mention(reasoning: str, right: str, wrong: str, options: dict[str, str]) -> list[Edit]:
    text = options.get(right, "")
    found = list(re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", reasoning, re.IGNORECASE)) if text else []
    if not found:
        return []
    old = found[-1]
    return word_edits(reasoning, old.start(), old.end(), _as_mentioned(options[wrong], text, old[0]))


def _as_mentioned(new: str, listed: str, mentioned: str) -> str:
    """``new`` with a capital or without one if ``listed`` was mentioned so; not for acronyms."""
    if mentioned[:1] == listed[:1] or new[:2].isupper():
        return new
    return in_case_of(new[:1].lower() + new[1:], mentioned[:1])
