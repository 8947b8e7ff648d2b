"""Where the numbers of a trace come from, and what becomes of the later ones when an earlier one changes."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

from rairl_lightning.text.equations import Equation, find_quantities
from rairl_lightning.text.expressions import Token, evaluate_tokens, tokenise
from rairl_lightning.text.perturbations.base import Solution
from rairl_lightning.text.perturbations.modulus import equations_of, is_true, modulus_of, written
from rairl_lightning.text.perturbations.numbers import decimals, number, rewritten
from rairl_lightning.text.steps import step_spans

_COUNTED = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_WORDS = {
    **{word: value for value, word in enumerate(_COUNTED.split())},
    **dict.fromkeys(["half", "twice", "double", "doubled", "doubles", "couple", "pair", "both", "halves"], 2),
    **dict.fromkeys(["thrice", "triple", "tripled", "triples", "third", "thirds"], 3),
    **dict.fromkeys(["quarter", "quarters", "fourth", "fourths", "quadruple"], 4),
    **dict.fromkeys(["fifth", "fifths"], 5),
    **{"dozen": 12, "dozens": 12, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100},
}
# Weeks, months, hours, minutes, years, percent, cents and the like: numbers that nobody has to be told.
_COMMON = frozenset(map(Fraction, (0, 1, 2, 3, 4, 5, 7, 10, 12, 24, 28, 30, 31, 52, 60, 100, 360, 365, 366, 1000)))
_TEN = Fraction(10)


@dataclass(frozen=True)
class Ledger:
    """The numbers of one trace in reading order, each known by its place in that order.

    Attributes:
        demonstration: whose trace it is.
        numbers: tokens of the reasoning.
        equations: of the reasoning.
        modulus: of its arithmetic, None if it does not wrap around.
    """

    demonstration: Solution
    numbers: tuple[Token, ...]
    equations: tuple[Equation, ...]
    modulus: int | None

    @classmethod
    def of(cls, demonstration: Solution, others: Sequence[Solution] = ()) -> "Ledger":
        """Read a trace; ``others`` may tell the modulus."""
        equations = equations_of(demonstration.reasoning)
        tokens = {token.start: token for token in find_quantities(demonstration.reasoning)}
        for equation in equations:
            parts = [*equation.left, equation.result]
            tokens |= {token.start: token for token in parts if token.kind == "number"}
        numbers = tuple(tokens[start] for start in sorted(tokens))
        return cls(demonstration, numbers, equations, modulus_of(demonstration, others))

    @cached_property
    def values(self) -> tuple[Fraction, ...]:
        """Value of each number."""
        return tuple(number(token.text) for token in self.numbers)

    @cached_property
    def place_of(self) -> Mapping[int, int]:
        """From where a number starts to its place."""
        return {token.start: place for place, token in enumerate(self.numbers)}

    @cached_property
    def equation_of(self) -> Mapping[int, Equation]:
        """From the place of a result to its equation."""
        return {self.place_of[equation.result.start]: equation for equation in self.equations}

    @cached_property
    def given(self) -> frozenset[Fraction]:
        """Values that the prompt tells, in digits, in words or as a percentage."""
        tokens = tokenise(self.demonstration.prompt)
        told = {number(token.text) for token in tokens if token.kind == "number"}
        words = {Fraction(_WORDS[word]) for token in tokens if (word := token.text.casefold()) in _WORDS}
        shares = {number(a.text) for a, b in pairwise(tokens) if a.kind == "number" and b.kind == "percent"}
        rest = {100 + sign * share for share in shares for sign in (1, -1)}
        return frozenset(told | words | rest | {share / 100 for share in shares | rest})

    @cached_property
    def prompt_numbers(self) -> tuple[str, ...]:
        """The prompt's quantities as written, each once, in order."""
        return tuple(dict.fromkeys(token.text for token in find_quantities(self.demonstration.prompt)))

    @cached_property
    def has_commas(self) -> bool:
        """Whether thousands are set off anywhere."""
        texts = [self.demonstration.prompt, *(token.text for token in self.numbers)]
        return any("," in token.text for text in texts for token in tokenise(text) if token.kind == "number")

    @cached_property
    def heirs(self) -> Mapping[int, int]:
        """In a running total, where each equation starts from the result before it: first operand to that result."""
        places = [(self.operands(equation), self.place_of[equation.result.start]) for equation in self.equations]
        links = {
            operands[0]: result
            for (_, result), (operands, _) in pairwise(places)
            if operands and operands[0] >= result and self.values[operands[0]] == self.values[result]
        }
        return links if len(links) == len(self.equations) - 1 else {}

    def operands(self, equation: Equation) -> list[int]:
        """Places of the numbers left of the equals sign."""
        return [self.place_of[token.start] for token in equation.left if token.kind == "number"]

    @cached_property
    def in_equation(self) -> frozenset[int]:
        """Places of the numbers of equations."""
        sides = [[*self.operands(e), self.place_of[e.result.start]] for e in self.equations]
        return frozenset(place for side in sides for place in side)

    @cached_property
    def _step_starts(self) -> tuple[int, ...]:
        return tuple(start for start, _ in step_spans(self.demonstration.reasoning))

    def step_at(self, position: int) -> int:
        """Which step a character of the reasoning is in."""
        return bisect_right(self._step_starts, position)

    def steps_of(self, places: Mapping[int, object]) -> set[int]:
        """The steps that hold these numbers."""
        return {self.step_at(self.numbers[place].start) for place in places}

    def sources(self, place: int) -> list[int]:
        """Results before a number that it may repeat: the one it continues, or all that have its value."""
        if place in self.heirs:
            return [self.heirs[place]]
        if self.heirs and self.values[place] in self.given:
            return []
        return [other for other in self._results.get(self.values[place], ()) if other < place]

    @cached_property
    def _results(self) -> Mapping[Fraction, list[int]]:
        """Places of the results, by value."""
        out: dict[Fraction, list[int]] = {}
        for place in self.equation_of:
            out.setdefault(self.values[place], []).append(place)
        return out

    @cached_property
    def traceable(self) -> tuple[bool, ...]:
        """Whether the prompt, common knowledge, an earlier result or an earlier operand has a number's value."""
        known = set(self.given | _COMMON)
        out = []
        for place, value in enumerate(self.values):
            out.append(value in known)
            if place in self.in_equation:
                known.add(value)
        return tuple(out)

    @cached_property
    def answer_number(self) -> Token | None:
        """The one quantity of the answer."""
        found = find_quantities(self.demonstration.answer)
        return found[0] if len(found) == 1 else None

    @cached_property
    def answer_place(self) -> int | None:
        """The last result, if the answer is its value."""
        if self.answer_number is None:
            return None
        value, last = number(self.answer_number.text), max(self.equation_of, default=None)
        same = [place for place in self.equation_of if self.values[place] == value]
        return same[-1] if same and (len(same) == 1 or same[-1] == last) else None

    @cached_property
    def unread_steps(self) -> frozenset[int]:
        """Steps with an equals sign that belongs to no equation: nobody knows what must follow in them."""
        tokens = tokenise(self.demonstration.reasoning)
        read = {equation.result.start for equation in self.equations}
        return frozenset(
            self.step_at(token.start)
            for index, token in enumerate(tokens)
            if token.kind == "equals" and not any(after.start in read for after in tokens[index + 1 : index + 4])
        )

    def texts(self, changed: Mapping[int, Fraction]) -> dict[int, str] | None:
        """Changed numbers in the notation of the old; None if one cannot be written so."""
        out = {}
        for place, value in changed.items():
            text = rewritten(self.numbers[place].text, value, commas=self.has_commas)
            if text is None:
                return None
            out[place] = text
        return out

    def recomputed(self, equation: Equation, changed: Mapping[int, Fraction]) -> Fraction | None:
        """The result of an equation after its operands changed, to as many decimals as before.

        None if the equation was false, if the new value has another sign, or if it needs more decimals although the
        old one did not.
        """
        texts = self.texts({place: changed[place] for place in self.operands(equation) if place in changed})
        if texts is None or not is_true(equation, self.modulus):
            return None
        left = [self._replaced(token, texts) for token in equation.left]
        new, old, result = evaluate_tokens(left), equation.value, written(equation)
        if new is None or old is None:
            return None
        if self.modulus is not None:
            return new % self.modulus if new.denominator == 1 else None
        places = _TEN ** decimals(equation.result.text)
        scale = min((1, 100), key=lambda by: abs(by * old - result))
        value = equation.sign * scale * new
        if scale * old == result and (value * places).denominator != 1:
            return None
        return Fraction(round(value * places)) / places if value >= 0 else None

    def _replaced(self, token: Token, texts: Mapping[int, str]) -> Token:
        place = self.place_of.get(token.start, -1)
        return Token(token.kind, texts[place], token.start) if place in texts else token
