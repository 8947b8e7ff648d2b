"""The one layout of a trace: written here, read here, asked for here."""

import re
from dataclasses import dataclass
from itertools import pairwise

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAG = re.compile("</?(?:think|answer)>")
_ORDER = [THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE]


def render_completion(reasoning: str, answer: str) -> str:
    r"""Write a trace; white space around both parts is dropped, so that there is exactly one layout.

    >>> render_completion("2 + 2 = 4", "4")
    '<think>\n2 + 2 = 4\n</think>\n<answer>\n4\n</answer>'
    """
    return f"{THINK_OPEN}\n{reasoning.strip()}\n{THINK_CLOSE}\n{ANSWER_OPEN}\n{answer.strip()}\n{ANSWER_CLOSE}"


DEFAULT_INSTRUCTION = (
    "Solve the problem step by step. Reply in exactly this form and write nothing outside the tags:\n"
    + render_completion("your reasoning, one step a line", "the final answer alone")
)
"""A system prompt that asks a language model for this layout."""


def leaves_open(text: str) -> bool:
    r"""Whether a completion stops inside a block: it was cut before it ended.

    >>> leaves_open("<think>\n2 + 2"), leaves_open("<think>\n2 + 2 = 4\n</think>\n<answer>4</answer>")
    (True, False)
    """
    tags = TAG.findall(text)
    return bool(tags) and tags[-1] in (THINK_OPEN, ANSWER_OPEN)


@dataclass(frozen=True)
class Parsed:
    """What was found in a completion.

    Attributes:
        reasoning: inside of the first think block, up to the next tag or the end if it was cut; None without one.
        answer: inside of the last closed answer block, None without one (:func:`extract_answer` also judges it).
        well_formed: one think block, then one answer block, both non-empty, and only white space around them.
    """

    reasoning: str | None
    answer: str | None
    well_formed: bool


def blocks(text: str, opening: str, closing: str) -> list[str]:
    """Insides of the blocks that are closed and hold no other tag, stripped, in order.

    >>> blocks("<answer> 5 </answer> or <answer>6", ANSWER_OPEN, ANSWER_CLOSE)
    ['5']
    """
    tags = list(TAG.finditer(text))
    pairs = pairwise(tags)
    return [text[a.end() : b.start()].strip() for a, b in pairs if (a.group(), b.group()) == (opening, closing)]


def parse_completion(text: str) -> Parsed:
    r"""Read a completion, well-formed or not; never raises.

    >>> parse_completion("<think>\n2 + 2 = 4\n</think>\n<answer>\n4\n</answer>")
    Parsed(reasoning='2 + 2 = 4', answer='4', well_formed=True)
    >>> parse_completion("<think>\n2 + 2 = ")
    Parsed(reasoning='2 + 2 =', answer=None, well_formed=False)
    """
    tags = list(TAG.finditer(text))
    answers = blocks(text, ANSWER_OPEN, ANSWER_CLOSE)
    reasoning = None
    for place, tag in enumerate(tags):
        if tag.group() == THINK_OPEN:
            end = tags[place + 1].start() if place + 1 < len(tags) else len(text)
            reasoning = text[tag.end() : end].strip()
            break
    well_formed = [tag.group() for tag in tags] == _ORDER and bool(reasoning) and bool(answers[0])
    if well_formed:
        outside = text[: tags[0].start()] + text[tags[1].end() : tags[2].start()] + text[tags[3].end() :]
        well_formed = not outside.strip()
    return Parsed(reasoning, answers[-1] if answers else None, well_formed)
