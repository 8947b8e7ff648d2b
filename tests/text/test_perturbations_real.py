"""On real demonstrations: how often each kind applies, and that its style does not give it away."""

import random
import re
import statistics
from dataclasses import dataclass
from functools import cache

import pytest
from perturbing import (
    KINDS,
    LOCAL,
    MOVED,
    corruptions,
    demo,
    dials,
    gsm8k,
    medreason,
    mmlu_pro,
    rendered,
    with_others,
)

from rairl_lightning.text.answers import answers_agree
from rairl_lightning.text.perturbations import BorrowedStep, DirectionFlip, DroppedStep, Negation, Perturbation, Rewrite

# Lower bounds of the table in the package's docstring, a few points below what was measured.
SHARES = {
    gsm8k: {
        "BorrowedStep": 0.97,
        "CarriedSlip": 0.84,
        "DirectionFlip": 0.58,
        "DroppedStep": 0.9,
        "Negation": 0.6,
        "NudgedAnswer": 1.0,
        "NumberCorruption": 0.99,
        "OperatorFlip": 0.92,
        "ReorderedSteps": 0.8,
        "StrayOperand": 0.62,
        "SwappedOperands": 0.68,
        "SwappedQuantities": 0.93,
        "WrongEntity": 0.9,
        "WrongOperand": 0.73,
    },
    dials: {
        "BorrowedStep": 0.98,
        "CarriedSlip": 1.0,
        "DirectionFlip": 0.98,
        "DroppedStep": 0.98,
        "NudgedAnswer": 1.0,
        "NumberCorruption": 1.0,
        "OperatorFlip": 1.0,
        "ReorderedSteps": 0.98,
        "StrayOperand": 0.98,
        "SwappedOperands": 0.65,
        "SwappedQuantities": 0.98,
        "WrongEntity": 1.0,
        "WrongOperand": 0.98,
    },
    mmlu_pro: {
        "BorrowedStep": 0.85,
        "DirectionFlip": 0.48,
        "Negation": 0.84,
        "NudgedAnswer": 1.0,
        "NumberCorruption": 0.44,
        "SwappedOption": 1.0,
        "WrongEntity": 0.8,
    },
    medreason: {
        "BorrowedStep": 0.95,
        "DirectionFlip": 0.78,
        "Negation": 0.92,
        "NudgedAnswer": 1.0,
        "SwappedOption": 1.0,
        "WrongEntity": 0.82,
    },
}
SETS = list(SHARES)
CASES = [(data, kind) for data in SETS for kind in KINDS]
STYLE = {
    "length": len,
    "lines": lambda text: text.count("\n"),
    "digits": lambda text: len(re.findall(r"[0-9]", text)),
    "numbers": lambda text: len(re.findall(r"[0-9][0-9,.]*", text)),
    "thousands": lambda text: len(re.findall(r"[0-9],[0-9]", text)),
    "decimals": lambda text: len(re.findall(r"\.[0-9]", text)),
    "leading zeros": lambda text: len(re.findall(r"(?<![0-9.,])0[0-9]", text)),
    "negative numbers": lambda text: len(re.findall(r"[=(] ?-[0-9]", text)),
    "double spaces": lambda text: text.count("  "),
    "capitals": lambda text: sum(character.isupper() for character in text),
    "equals": lambda text: text.count("="),
    "denials": lambda text: len(re.findall(r"\b(?:not|cannot|never|no)\b|n't", text)),
}
# What these kinds are cannot be done without it: a step less is shorter, a negation denies.
OF_THEIR_NATURE = {
    DroppedStep: {"length", "lines", "digits", "numbers", "decimals", "thousands", "capitals", "equals", "denials"},
    Negation: {"denials"},
}
MOST_SHIFT = 0.06
"""Of a feature's mean, in standard deviations over the originals."""
MOST_SHIFT_OF_DRAWS = {BorrowedStep: 0.2}
"""A borrowed step brings its own features, which differ by chance, one in a trace of about four."""
MOST_NEW_WORDS = {DirectionFlip: 0.3, Negation: 0.3}
"""Words a corruption that the data never use; the other kinds bring none."""


def named(case):
    return getattr(case, "__name__", type(case).__name__)


@cache
def corrupted(data, kind):
    """Every other demonstration and its corruption: one pass over the data for all that is asked of it."""
    return corruptions(kind, data()[::2])


@pytest.mark.parametrize(("data", "kind"), CASES, ids=named)
def test_each_kind_applies_as_often_as_the_table_says(data, kind):
    tried = corrupted(data, kind)
    share = sum(made is not None for _, made in tried) / len(tried)
    print(f"{named(data)} {named(kind)}: {share:.3f}")
    assert share >= SHARES[data].get(named(kind), 0.0)


@pytest.mark.parametrize(("data", "kind"), CASES, ids=named)
def test_style_does_not_give_a_corruption_away(data, kind):
    assert leaks(kind, corrupted(data, kind)) == set()


def leaks(kind, tried):
    """Features whose mean moves, and ``words`` if the corruptions use words that the data do not."""
    pairs = [(rendered(one), rendered(made)) for one, made in tried if made is not None]
    if len(pairs) < 30:
        return set()
    originals = [rendered(one) for one, _ in tried]
    most = MOST_SHIFT_OF_DRAWS.get(type(kind), MOST_SHIFT)
    moved = {name for name in STYLE if shift(name, originals, pairs) > most}
    known = set().union(*(known_words(text) for one, _ in tried for text in (one.prompt, rendered(one))))
    new = sum(word not in known for _, made in pairs for word in words(made)) / len(pairs)
    return (moved - OF_THEIR_NATURE.get(type(kind), set())) | (
        {"words"} if new > MOST_NEW_WORDS.get(type(kind), 0) else set()
    )


def shift(name, originals, pairs):
    spread = statistics.pstdev(measured(name, text) for text in originals) or 1.0
    return abs(statistics.mean(STYLE[name](after) - measured(name, before) for before, after in pairs)) / spread


@cache
def measured(name, original):
    """Once for every kind: the originals are the same."""
    return STYLE[name](original)


@cache
def known_words(original):
    return frozenset(words(original))


def words(text):
    return re.findall(r"[a-z]+", text.casefold())


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("= ", "=  ", {"double spaces"}),
        ("$", "$0", {"leading zeros", "digits"}),
        (".\n", ".00\n", {"decimals"}),
        ("so", "therefore", {"length"}),
        ("=", "is", {"equals"}),
        (" a ", " gizmo ", {"words"}),
    ],
)
def test_a_style_that_gives_a_corruption_away_is_noticed(old, new, found):
    @dataclass(frozen=True)
    class Careless(Perturbation):
        def rewrite(self, demonstration, rng, others):
            return Rewrite(demonstration.reasoning.replace(old, new), demonstration.answer)

    assert leaks(Careless(), corruptions(Careless(), gsm8k()[:150])) & found


@pytest.mark.parametrize("data", SETS, ids=named)
def test_what_must_become_wrong_does_and_what_must_stay_stays(data):
    for kind in KINDS:
        for one, made in corruptions(kind, data()[:60]):
            if made is not None:
                assert answers_agree(one.answer, made.answer) != kind.changes_answer
                assert rendered(one) != rendered(made)


@pytest.mark.parametrize("data", SETS, ids=named)
def test_the_span_is_what_changed_and_nothing_before_it_did(data):
    for kind in KINDS:
        for one, made in corruptions(kind, data()[60:100]):
            if made is None:
                continue
            before, after, (start, end) = rendered(one), rendered(made), made.span
            if kind not in MOVED:  # there a step may be missing before the error shows
                assert before[:start] == after[:start] and (before[start] != after[start] or end == start + 1)
            if kind in LOCAL:
                behind = len(before) - (len(after) - end)
                assert before[behind:] == after[end:]
                # A pure deletion points at the character behind it; any other span ends with a new one.
                assert before[start:behind][-1:] != after[end - 1] or end == start + 1


@pytest.mark.parametrize("data", SETS, ids=named)
def test_the_order_of_the_calls_changes_nothing(data):
    tasks = with_others(data()[:30])
    for kind in KINDS:
        forth = [kind(one, random.Random(f"7 {one.id}"), others) for one, others in tasks]
        back = [kind(one, random.Random(f"7 {one.id}"), others) for one, others in reversed(tasks)]
        assert forth == back[::-1]


def test_without_others_nothing_is_borrowed_and_nothing_raises():
    for one in (*gsm8k()[:20], *mmlu_pro()[:20], demo("")):
        for kind in KINDS:
            made = kind(one, random.Random(0))
            assert made is None or named(kind) != "BorrowedStep"
