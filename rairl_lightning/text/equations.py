"""Equations and quantities in prose, found without understanding it: what a perturbation may change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from rairl_lightning.text.expressions import OPERATORS, Token, evaluate_tokens, tokenise

_ENDS_OPERAND = frozenset({"number", "percent", "close"})
_STARTS_OPERAND = frozenset({"number", "open", "money"})
_BOUNDARIES = frozenset("\n\\.,:;")
_MAX_TOKENS = 64
_MAX_UNIT_WORDS = 3
_LABELS = frozenset({"step", "equation", "eq", "option", "#"})


@dataclass(frozen=True)
class Equation:
    """An expression in prose and the number written after its equals sign.

    Attributes:
        left: tokens of the expression, units and currency signs left out.
        result: token of the number on the right.
        sign: -1 if the number on the right is negative, else 1.
    """

    left: tuple[Token, ...]
    result: Token
    sign: int = 1

    @cached_property
    def value(self) -> Fraction | None:
        """Value of the left side."""
        return evaluate_tokens(self.left)

    @property
    def holds(self) -> bool:
        """Whether the result is the left side rounded to the decimals written: ``|left - result| ≤ ½·10^-decimals``.

        After percentages the result may be one, too (``100% - 40% = 60%``).
        """
        written = evaluate_tokens([self.result])
        if self.value is None or written is None:
            return False
        tolerance = Fraction(1, 2 * 10 ** len(self.result.text.partition(".")[2]))
        scales = (1, 100) if any(token.kind == "percent" for token in self.left) else (1,)
        return any(abs(scale * self.value - self.sign * written) <= tolerance for scale in scales)

    @property
    def operators(self) -> list[Token]:
        """Binary operators of the left side (a unary minus is none)."""
        pairs = zip(self.left[:-1], self.left[1:], strict=True)
        return [token for before, token in pairs if token.kind == "operator" and before.kind in _ENDS_OPERAND]

    def replaced(self, token: Token, text: str) -> "Equation":
        """The same equation with another text for one of its tokens."""
        new = replace(token, text=text)
        left = tuple(new if old == token else old for old in self.left)
        return replace(self, left=left, result=new if self.result == token else self.result)


def find_equations(text: str) -> list[Equation]:
    """All ``expression = number`` in prose that have an operator; an equation stays on its line.

    >>> [(equation.value, equation.holds) for equation in find_equations("- so 3 hours x $2 = $6, or 16 - 3 = 12")]
    [(Fraction(6, 1), True), (Fraction(13, 1), False)]
    """
    tokens = tokenise(text)
    found = []
    for place, token in enumerate(tokens):
        if token.kind == "equals" and (right := _right_side(tokens, place + 1)):
            left = _left_side(tokens, place)
            equation = Equation(left, *right)
            found += [equation] if equation.operators else []
    return found


def _right_side(tokens: Sequence[Token], place: int) -> tuple[Token, int] | None:
    """The number after an equals sign, and its sign."""
    sign = 1
    for index, token in enumerate(tokens[place : place + 3], start=place + 1):
        if token.kind == "number":
            return None if _continues(token, tokens[index : index + 1]) else (token, sign)
        if OPERATORS.get(token.text) == "-":
            sign = -1
        elif token.kind != "money":
            return None
    return None


def _continues(number: Token, following: Sequence[Token]) -> bool:
    """Whether a number is only the start of a product, a fraction or a variable's coefficient."""
    if not following:
        return False
    glued = following[0].start == number.end and following[0].kind in {"word", "open"}
    return glued or OPERATORS.get(following[0].text) in {"*", "/"}


def _left_side(tokens: Sequence[Token], end: int) -> tuple[Token, ...]:
    """The longest arithmetic that ends before token ``end``, read from right to left; empty if there is none."""
    taken: list[Token] = []
    place = end - 1
    while place >= max(0, end - _MAX_TOKENS):
        token, right = tokens[place], taken[-1] if taken else tokens[end]
        if token.kind == "word" and right.kind not in _STARTS_OPERAND:
            number = _before_unit(tokens, place)
            if number is None:
                break
            place = number
            continue
        if token.kind in _ENDS_OPERAND and right.kind in _STARTS_OPERAND:
            break
        if token.kind not in _ENDS_OPERAND | _STARTS_OPERAND | {"operator"}:
            break
        taken.append(token)
        place -= 1
    if place >= 0 and taken and tokens[place].kind in _ENDS_OPERAND:
        return ()
    begins_here = place < 0 or tokens[place].text in _BOUNDARIES
    return _trimmed([token for token in reversed(taken) if token.kind != "money"], begins_here)


def _before_unit(tokens: Sequence[Token], place: int) -> int | None:
    """Index of the number whose unit words end at ``place``; None if they are not a unit."""
    for back in range(place - 1, max(-1, place - 1 - _MAX_UNIT_WORDS), -1):
        if tokens[back].kind in _ENDS_OPERAND:
            return back if tokens[back].end < tokens[back + 1].start else None
        if tokens[back].kind != "word":
            return None
    return None


def _trimmed(left: list[Token], begins_here: bool) -> tuple[Token, ...]:
    """Without unmatched opening brackets, nor the bullet of a list item; empty if an operand was cut off."""
    depth = sum((token.kind == "open") - (token.kind == "close") for token in left)
    while depth > 0 and left and left[0].kind == "open":
        left, depth = left[1:], depth - 1
    if not left or left[0].kind != "operator":
        return tuple(left)
    if not begins_here:
        return ()
    is_sign = OPERATORS[left[0].text] == "-" and len(left) > 1 and left[0].end == left[1].start
    return tuple(left) if is_sign else tuple(left[1:])


def find_quantities(text: str) -> list[Token]:
    """Numbers of a text, without labels (``1.``, ``Step 2``) and numbers inside words (``B12``, ``5th``).

    >>> [token.text for token in find_quantities("2. In step 1 the 5th hen lays 3x4 eggs")]
    ['3', '4']
    """
    tokens = tokenise(text)
    return [
        token
        for place, token in enumerate(tokens)
        if token.kind == "number" and not _is_glued(tokens, place) and not _is_label(tokens, place)
    ]


def _is_glued(tokens: Sequence[Token], place: int) -> bool:
    """Whether a word or a LaTeX command touches the number."""
    token = tokens[place]
    return any(
        other.kind == "word" and (other.end == token.start or token.end == other.start)
        for other in tokens[max(0, place - 1) : place + 2]
    )


def _is_label(tokens: Sequence[Token], place: int) -> bool:
    """Whether the number names a step or an item of a list, bulleted or not."""
    before = list(tokens[max(0, place - 2) : place])
    if before and before[-1].text.casefold() in _LABELS:
        return True
    if before and before[-1].kind in {"operator", "open"}:
        before.pop()
    at_start = not before or before[-1].text == "\n"
    after = tokens[place + 1 : place + 2]
    return at_start and bool(after) and after[0].text in {".", ")", ":"} and after[0].start == tokens[place].end
