"""An exact arithmetic parser for untrusted text: no ``eval``, bounded length and depth."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 256
"""Characters beyond which an expression is not read."""
MAX_DEPTH = 32
"""Nesting beyond which an expression is not read."""

OPERATORS = {
    **dict.fromkeys("+", "+"),
    **dict.fromkeys("-−–", "-"),
    **dict.fromkeys(["*", "×", "·", "x", "X", "\\times", "\\cdot"], "*"),
    **dict.fromkeys(["/", "÷", "\\div"], "/"),
}
"""Every written operator and the one it means."""

_TOKEN = re.compile(
    r"""(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)
      | (?P<other>\*\*|//|[<>!=:]=|=[=>]|\n)
      | (?P<operator>[-−–+*×·/÷]|\\times\b|\\cdot\b|\\div\b
          |(?<=\s)[xX](?=\s+[($€£.0-9])|(?<=[0-9)%])[xX](?=\s*[($€£.0-9]))
      | (?P<equals>=) | (?P<open>\() | (?P<close>\)) | (?P<money>\\?[$€£]) | (?P<percent>\\?%)
      | (?P<word>[^\W\d]\w*) | (?P<rest>\S)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """A piece of text: its kind, its characters, and where it starts."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """One past its last character."""
        return self.start + len(self.text)


def tokenise(text: str) -> list[Token]:
    """Cut prose into numbers, operators, brackets, words and the rest; never fails, linear time.

    >>> [token.text for token in tokenise("9 x 2 = $18")]
    ['9', 'x', '2', '=', '$', '18']
    """
    return [Token(match.lastgroup or "rest", match.group(), match.start()) for match in _TOKEN.finditer(text)]


def evaluate(text: str) -> Fraction | None:
    """Exact value of an expression of numbers, ``+ - * /``, brackets, unary minus and percent.

    Args:
        text: at most :data:`MAX_LENGTH` characters, nested at most :data:`MAX_DEPTH` deep.

    Returns:
        The value, or None if the text is anything else or divides by zero.

    >>> evaluate("2 × (3 - 1,000)"), evaluate("20% * 50"), evaluate("1 / 0"), evaluate("2 ** 9")
    (Fraction(-1994, 1), Fraction(10, 1), None, None)
    """
    return evaluate_tokens(tokenise(text)) if len(text) <= MAX_LENGTH else None


def evaluate_tokens(tokens: Sequence[Token]) -> Fraction | None:
    """:func:`evaluate` for text that is in tokens already."""
    if sum(len(token.text) for token in tokens) > MAX_LENGTH:
        return None
    parser = _Parser([token for token in tokens if token.kind != "money"])
    try:
        value = parser.sum(0)
    except (_NotArithmeticError, ZeroDivisionError):
        return None
    return value if parser.done else None


class _NotArithmeticError(ValueError):
    """Leaves the parser; never leaves this file."""


class _Parser:
    """Recursive descent: sum = product {(+|-) product}; product = factor {(*|/) factor}."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._next = 0

    @property
    def done(self) -> bool:
        return self._next == len(self._tokens)

    def _accept(self, kind: str, *meanings: str) -> str | None:
        """Take the next token if it is of this kind and, for operators, has one of these meanings."""
        if self.done or self._tokens[self._next].kind != kind:
            return None
        text = self._tokens[self._next].text
        meaning = OPERATORS.get(text, text)
        if meanings and meaning not in meanings:
            return None
        self._next += 1
        return meaning

    def sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while sign := self._accept("operator", "+", "-"):
            term = self._product(depth)
            value = value + term if sign == "+" else value - term
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._factor(depth)
        while sign := self._accept("operator", "*", "/"):
            factor = self._factor(depth)
            value = value * factor if sign == "*" else value / factor
        return value

    def _factor(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise _NotArithmeticError
        if self._accept("operator", "-"):
            return -self._factor(depth + 1)
        if self._accept("open"):
            value = self.sum(depth + 1)
            if not self._accept("close"):
                raise _NotArithmeticError
            return value
        number = self._accept("number")
        if number is None:
            raise _NotArithmeticError
        value = Fraction(number.replace(",", ""))
        return value / 100 if self._accept("percent") else value
