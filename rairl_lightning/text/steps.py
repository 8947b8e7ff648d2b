"""The one splitter of a trace into reasoning steps, used for training, scoring and evaluation alike."""

import re
from collections.abc import Iterator

from rairl_lightning.text.chat import ANSWER_CLOSE, ANSWER_OPEN, TAG

LONG_LINE = 160
"""Characters beyond which a line is a paragraph and is split into its sentences."""

_LINE = re.compile(r"[^\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")  # as str.splitlines does
_SENTENCE_END = re.compile(r"""[.!?…]["'”’)\]*_$]*(?=\s)|[。！？]["'”’)」』]*""")
_LAST_WORD = re.compile(r"\S+\Z")
_INITIAL_OR_DOTTED = re.compile(r"[\W_]*(?:[A-Z]|[^\W\d_](?:\.[^\W\d_])+)\Z")
_MARKER = re.compile(r"(?:\A|:)[\s(*#-]*[0-9]{1,3}\Z")
_SHORT = "al approx ca cf dept dr eq eqs etc fig figs jr mr mrs ms pp prof sr st vs"
# Abbreviations that may also end a sentence: what follows tells.
_BEFORE_SMALL = "co corp ft gal hr hrs in inc lb lbs ltd max mi min mins oz sec sq yd yr yrs"
_BEFORE_NUMBERS = "apr art aug ch dec feb jan jul jun mar no nos nov oct sep sept vol"
_ABBREVIATIONS, _SMALL_FOLLOWS, _NUMBER_FOLLOWS = (
    frozenset(words.split()) for words in (_SHORT, _BEFORE_SMALL, _BEFORE_NUMBERS)
)
_FACTORIAL = re.compile(r"(?:[0-9)]|(?<!\w)[A-Za-z])\Z")
_QUOTED = frozenset("\"'”’")
_LOOKBACK = 24
_LOOKAHEAD = 8


def step_spans(text: str) -> list[tuple[int, int]]:
    r"""Find the steps of a completion, as disjoint ``(start, end)`` character spans in order.

    A step is one line; a line longer than :data:`LONG_LINE` is split after its sentences. Tags bound steps and belong
    to none, except that an answer block is one step, tags included. Pieces without a letter or digit are no steps.
    Works on malformed and cut text, never raises, linear time.

    Args:
        text: the whole completion.

    >>> text = "<think>\n2 + 2 = 4\nSo 4.\n</think>\n<answer>\n4\n</answer>"
    >>> [text[start:end] for start, end in step_spans(text)]
    ['2 + 2 = 4', 'So 4.', '<answer>\n4\n</answer>']
    """
    spans = []
    position = answer_start = 0
    in_answer = False
    for tag in TAG.finditer(text):
        if in_answer:
            if tag.group() == ANSWER_CLOSE:
                spans.append((answer_start, tag.end()))
                in_answer = False
        else:
            spans += _pieces(text, position, tag.start())
            in_answer, answer_start = tag.group() == ANSWER_OPEN, tag.start()
        position = tag.end()
    if in_answer:
        return [*spans, (answer_start, len(text.rstrip()))]
    return [*spans, *_pieces(text, position, len(text))]


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Lines, or sentences of long lines, without the white space around them."""
    for line in _LINE.finditer(text, start, end):
        cuts = [*_sentence_ends(text, *line.span()), line.end()] if len(line.group()) > LONG_LINE else [line.end()]
        left = line.start()
        for right in cuts:
            piece = text[left:right]
            if any(character.isalnum() for character in piece):
                yield left + len(piece) - len(piece.lstrip()), left + len(piece.rstrip())
            left = right


def _sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Ends of the sentences of one line; a decimal point is none, since white space must follow."""
    left = start
    for mark in _SENTENCE_END.finditer(text, start, end):
        before = text[max(left, mark.start() - _LOOKBACK) : mark.start()]
        behind = text[mark.end() : min(end, mark.end() + _LOOKAHEAD)].lstrip()[:1]
        if not _goes_on(before, mark.group(), behind):
            left = mark.end()
            yield left


def _goes_on(before: str, mark: str, behind: str) -> bool:
    """Whether the sentence goes on after a mark that may end one; ``behind`` is the next character."""
    if mark[0] == ".":
        return _is_abbreviation(before, behind) or bool(_MARKER.search(before)) or _is_dots(before, mark, behind)
    if mark[0] == "!" and _FACTORIAL.search(before):
        return not behind.isupper()
    return _is_dots(before, mark, behind)


def _is_dots(before: str, mark: str, behind: str) -> bool:
    """``Hmm... so`` and ``"Stop!" cried``: dots or a quotation, and no capital behind them."""
    return behind.islower() and (mark[0] == "…" or before.endswith(".") or mark[-1] in _QUOTED)


def _is_abbreviation(before: str, behind: str) -> bool:
    match = _LAST_WORD.search(before)
    if match is None:
        return False
    word = match.group().strip("(\"'*").lower()
    if (behind.islower() and word in _SMALL_FOLLOWS) or (behind.isdigit() and word in _NUMBER_FOLLOWS):
        return True
    return word in _ABBREVIATIONS or bool(_INITIAL_OR_DOTTED.match(match.group()))
