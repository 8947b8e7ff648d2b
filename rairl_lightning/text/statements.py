r"""Reading the answer that a text without tags states last: ``The answer is (C).``, ``#### 18``, ``\boxed{5}``.

Written for traces of anybody's model. Linear time; every look back or ahead is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from rairl_lightning.text.answers import answers_agree, cleaned, parse_quantity
from rairl_lightning.text.options import LETTER, LETTERS, SEVERAL, chosen_option

LONGEST = 200
"""Characters beyond which what follows ``the answer is`` is no answer."""

MOST = 256
"""Places that are looked at, from the end of a text on."""

_IS = r"(?::|=|\b(?:is|are|was|would\s+be|should\s+be|must\s+be)\b)"
_ANCHOR = re.compile(
    rf"""\b(?i:answer|(?:correct|right|best|final)\s(?:option|choice))\b(?!\s(?i:choice|option))
          [^.!?\n:=]{{0,80}}?(?i:{_IS})
      | (?P<box>\\(?:boxed|fbox|framebox)\s?\{{)
      | (?P<hashes>(?<!\#)\#\#\#\#(?!\#))
      | (?P<reversed>(?<![^\W_])\(?[A-Z]\b\)?)
          (?=\s(?i:is|would\sbe)\sthe\s(?i:correct|right|best)\s(?i:answer|option|choice)\b)
      | \b(?i:so|thus|therefore|hence|consequently),?\s(?i:the\s)?(?i:(?:option|choice|answer)\s)?
          (?P<concluded>\(?[A-Z]\b\)?)(?=\s(?:is|must\sbe)\s(?:correct|right)(?:[.!](?:\s|\Z)|\n|\Z))""",
    re.VERBOSE,
)
_SENTENCE_END = re.compile(r"\n|[.!?](?=[\"'”’)\]*_]*(?:\s|\Z))")
_DRESS = " \t\n:*_\"'“”"
_HEDGE = re.compile(
    r"(?:[\s:*_$\"'“(]|\\\(|\b(?i:most|likely|probably|therefore|thus|hence|clearly|simply|indeed|either|both|option|choice|"
    r"answer|letter|the)\b)*"
)
_NO_VALUE = re.compile(r"(?i:not|let|we|because|that|as|based|given|unknown|unclear)\b")
_REASON = re.compile(r",?\s(?i:because|since|as|which|so|due)\b")
_BEHIND_LETTER = re.compile(r"\)?[\s*_$}\"'”’\]]*(?:\Z|[.,:;)–—]|--|\s-|\s(?=[a-z(]))")
_CONTRAST = re.compile(r"[,;(]?\s?\b(?i:not|because|since|which|so|due|while|whereas|but|instead\sof|rather\sthan)\b")
_CONDITION = re.compile(
    r"\b(?i:if|suppose|assume|assuming|unless|whether)(?:\s(?i:that|the|our|my|correct|right|final))*\s\Z"
)
_ABOUT = re.compile(r"(?i:about|approximately|around|roughly|exactly|only|just)\s")
_IN_WORDS = re.compile(r"\s\([A-Za-z][A-Za-z -]*\)\Z")
_FURTHER = re.compile(r"\b([A-Z])\)|\b(?:and|or)\s\(?([A-Z])\b")
_LAST_LETTER = re.compile(r"\(([A-Z])\)\W*\Z")
_HEADING = re.compile(r"(?:\A|\n)[*#_ ]*(?i:(?:the )?(?:final )?answer)[*#_: ]*\Z")
_CONNECTIVES = re.compile(
    r"(?:[\s*_#>:,$-]|\\[(\[]|\b(?i:so|thus|therefore|hence|then|finally|consequently|overall|and|in|conclusion|"
    r"among\s[A-Z]\sthrough\s[A-Z]|step\s[0-9]+|the|this|question|to|of|my|our|correct|right|best|final|most|appropriate|likely|"
    r"answer|option|choice|is)\b)*"
)


@dataclass(frozen=True)
class Statement:
    """An answer that a text states.

    Attributes:
        answer: a letter or a text; None where the statement names several that differ.
        start: first character of its sentence.
        end: one past the last.
        alone: the sentence says nothing else.
    """

    answer: str | None
    start: int
    end: int
    alone: bool


def final_statement(text: str, options: Sequence[str] = ()) -> Statement | None:
    """The answer that a text states last; None if it states none.

    Args:
        text: without tags.
        options: of a multiple-choice question, so that their texts are understood.

    >>> final_statement("2 + 2 = 4. So the answer is 4.").answer
    '4'
    >>> final_statement("Therefore, among A through D, the answer is A, B, or C.").answer is None
    True
    """
    return next(_from_last(text, options), None)


def _only_an_option(text: str, options: Sequence[str]) -> Statement | None:
    """A text that is an option and nothing else, such as ``(B) dog``."""
    letter = chosen_option(text, options) if options and len(text) <= LONGEST else None
    return Statement(letter, 0, len(text), alone=True) if letter else None


def split_answer(text: str, options: Sequence[str] = ()) -> tuple[str, str | None]:
    """Part a text into its reasoning and the answer it states last.

    The statement is cut off the reasoning's end where it is a sentence of its own, so that the answer is not said
    twice, unless nothing would be left.

    Args:
        text: without tags.
        options: of a multiple-choice question.

    Returns:
        ``(reasoning, answer)``; the whole text and None if it states no answer, or several.

    >>> split_answer("Cats purr. The answer is (A).")
    ('Cats purr.', 'A')
    >>> split_answer("3 dogs and 2 cats, so the answer is 5 animals")
    ('3 dogs and 2 cats, so the answer is 5 animals', '5 animals')
    """
    reasoning, answer = argued(text, options)
    return reasoning or text.strip(), answer


def argued(text: str, options: Sequence[str] = ()) -> tuple[str, str | None]:
    """:func:`split_answer` of a text that should argue: the reasoning is empty if it only states the answer.

    >>> argued("The answer is (A).")
    ('', 'A')
    """
    found = _from_last(text, options)
    last = next(found, None)
    if last is None or last.answer is None:
        return text.strip(), None
    end = len(text)
    for statement in chain([last], found):
        if not statement.alone or statement.answer != last.answer or text[statement.end : end].strip(_DRESS):
            break
        end = statement.start
    reasoning = _HEADING.sub("", text[:end].rstrip()) if end < len(text) else text
    return reasoning.strip(), last.answer


def _from_last(text: str, options: Sequence[str]) -> Iterator[Statement]:
    """The statements of a text, the last first; of those in one sentence the last counts, but boxes must agree."""
    before = len(text) + 1
    anchors = list(_ANCHOR.finditer(text))[-MOST:]
    for place, anchor in reversed(list(enumerate(anchors))):
        statement = _read(text, anchor, options) if anchor.start() < before else None
        if statement is None:
            continue
        before = statement.start
        if anchor["box"] and _other_box(text, anchors[:place], statement, options):
            statement = replace(statement, answer=None)
        yield statement
    if not anchors and (only := _only_an_option(text, options)):
        yield only


def _other_box(text: str, anchors: Sequence[re.Match[str]], statement: Statement, options: Sequence[str]) -> bool:
    """Whether the sentence has a box with another answer before its last one."""
    for anchor in reversed(anchors):
        if anchor.start() < statement.start:
            return False
        other = _read(text, anchor, options) if anchor["box"] else None
        if other is not None and not answers_agree(other.answer, statement.answer):
            return True
    return False


def _read(text: str, anchor: re.Match[str], options: Sequence[str]) -> Statement | None:
    start = _sentence_start(text, anchor.start())
    prefix_alone = _CONNECTIVES.fullmatch(text, start, anchor.start()) is not None
    if anchor["box"]:
        return _read_box(text, anchor, start, prefix_alone, options)
    if _CONDITION.search(text, max(start, anchor.start() - 60), anchor.start()):
        return None
    letter = anchor["reversed"] or anchor["concluded"]
    first = anchor.start() if letter else anchor.end()
    first, end = _region(text, first)
    region = text[first:end]
    if letter:
        return Statement(letter.strip("()"), start, end, prefix_alone)
    if anchor["hashes"]:
        if parse_quantity(region.strip()) is None and len(region.split()) != 1:
            return None  # a heading
        start, prefix_alone = start if prefix_alone else anchor.start(), True
    found = _value(region, options)
    if found is None:
        return None
    answer, rest = found
    return Statement(answer, start, end, prefix_alone and _REASON.search(rest) is None)


def _sentence_start(text: str, position: int) -> int:
    low = max(0, position - 2 * LONGEST)
    ends = [match.end() for match in _SENTENCE_END.finditer(text, low, position)]
    return ends[-1] if ends else low


def _region(text: str, start: int) -> tuple[int, int]:
    """The rest of the sentence, or the next line where the sentence's ends with the anchor."""
    while start < len(text) and text[start] in _DRESS:
        start += 1
    match = _SENTENCE_END.search(text, start, min(len(text), start + LONGEST))
    if match is None:
        return start, len(text) if len(text) - start <= LONGEST else start
    return start, match.start() if match.group() == "\n" else match.end()


def _read_box(text: str, anchor: re.Match[str], start: int, alone: bool, options: Sequence[str]) -> Statement | None:
    close = _closing_brace(text, anchor.end())
    if close is None:
        return None
    content = text[anchor.end() : close].strip()
    plain = cleaned(content).strip("().")
    found = _value(content, options) if options else (plain if plain in LETTERS else content, "")
    if not content or found is None:
        return None
    _, end = _region(text, close + 1)
    tail = text[close + 1 : end].strip(_DRESS + "$.)]\\")
    return Statement(found[0], start, max(end, close + 1), alone and not tail)


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for place in range(start, min(len(text), start + LONGEST)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    return None


def _value(region: str, options: Sequence[str]) -> tuple[str | None, str] | None:
    """The answer in what follows an anchor, and what is said behind it; None if there is no answer in it."""
    region = region.strip(_DRESS)
    if options and (letter := chosen_option(region, options)):
        return letter, region
    behind = region[_HEDGE.match(region).end() :]  # type: ignore[union-attr]  # it matches the empty text, too
    if several := SEVERAL.match(behind):
        return (
            (None, "") if len(set(re.findall(LETTER, several.group()))) > 1 else (several[1], behind[several.end() :])
        )
    if letter := _letter(behind, options):
        others = {other[1] or other[2] for other in _FURTHER.finditer(behind, 1, _contrast(behind))} - {letter}
        return (None, "") if others else (letter, behind[1:])
    if options:
        last = None if _NO_VALUE.match(region) else _LAST_LETTER.search(region)
        return (last[1], "") if last else None
    return _free(region)


def _contrast(text: str) -> int:
    """Where a text begins to say what the answer is not, or why."""
    contrast = _CONTRAST.search(text, 1)
    return contrast.start() if contrast else len(text)


def _letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that a text begins with; it may be none of the options, but then it must stand apart."""
    behind = _BEHIND_LETTER.match(text, 1) if text and text[0] in LETTERS else None
    if behind is None:
        return None
    apart = behind.group()[:1] == ")" or not behind.group()[-1:].isspace()
    known = not options or text[0] in LETTERS[: len(options)]
    word = text[0] in "AI" and not _REASON.match(text, 1)  # an article, a pronoun
    return text[0] if apart or (known and not word) else None


def _free(region: str) -> tuple[str | None, str] | None:
    reason = _REASON.search(region)
    answer = cleaned(region[: reason.start()] if reason else region).rstrip(",;*")
    behind = answer.rpartition("=")[2]
    answer = behind.strip() if behind != answer and parse_quantity(cleaned(behind)) else answer
    if not answer or _NO_VALUE.match(answer):
        return None
    answer = _bare_number(answer)
    values = {quantity.value for part in answer.split(" or ") if (quantity := parse_quantity(part))}
    return (None if len(values) > 1 else answer), region[reason.start() :] if reason else ""


def _bare_number(answer: str) -> str:
    """``about 3`` and ``3 (three)`` as ``3``; anything else as it is."""
    hedge = _ABOUT.match(answer)
    bare = _IN_WORDS.sub("", answer[hedge.end() :] if hedge else answer)
    return bare if parse_quantity(bare) else answer
