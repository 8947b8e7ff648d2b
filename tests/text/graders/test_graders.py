"""Exact answers, one option of several, and expressions that make a target."""

from __future__ import annotations

import copy
import itertools
import pickle
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rairl_lightning.errors import DataError
from rairl_lightning.text.graders import CountdownExpression, Exact, Grade, Grader, Mathematics, OptionChoice
from rairl_lightning.text.options import LETTERS, chosen_option, prompt_with_options
from rairl_lightning.text.perturbations.options import listed_options
from rairl_lightning.types import Demonstration

PETS = ("cat", "dog", "vitamin C", "None of the above")


def question(answer: str, options: tuple[str, ...] = (), **meta: str) -> Demonstration:
    return Demonstration("q", "?", "", answer, meta, options)


@pytest.mark.parametrize("grader", [Exact(), OptionChoice(), CountdownExpression(), Mathematics()])
def test_every_grader_can_be_copied_and_knows_no_answer(grader: Grader) -> None:
    assert pickle.loads(pickle.dumps(grader)) == copy.deepcopy(grader) == grader  # noqa: S301  # our own bytes
    asked = question("1 + 2", numbers="1 2", target="3")
    assert grader(None, asked) is grader(" \n", asked) is Grade.UNANSWERED
    assert grader("1 + 2", asked) is Grade.RIGHT and grader.same("1 + 2", "1 + 2", asked)


# --- Exact --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["1000", "1,000", "$1,000", "1000.0", r"\boxed{1000}", "1000 dollars", "$1000$."])
def test_a_number_may_be_written_in_many_ways(written: str) -> None:
    assert Exact()(written, question("1000")) is Grade.RIGHT
    assert Exact()(written, question("100")) is Grade.WRONG


# --- Options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("B. dog", "B"), ("(b) Dog", "B"), ("B: the dog", "B"),
        ("dog", "B"), ("DOG.", "B"), ("Option B", "B"), ("The correct answer is (B)", "B"), (r"\boxed{\text{(B)}}",
        "B"),
        ("**B**", "B"), ("B - dog", "B"), ("C. vitamin C", "C"), ("C) vitamin C, in short", "C"), ("C, vitamin C", "C"),
        ("B. dog, because a cat does not bark", "B"), ("none of the above", "D"),
    ],
)  # fmt: skip
def test_one_option_is_named(answer: str, letter: str) -> None:
    assert chosen_option(answer, PETS) == letter
    asked = question(letter, PETS)
    assert OptionChoice()(answer, asked) is Grade.RIGHT
    wrong = "A" if letter != "A" else "B"
    assert OptionChoice()(answer, question(wrong, PETS)) is Grade.WRONG


@pytest.mark.parametrize(
    "answer",
    [
        "A, B, C and D", "A or B", "A/B", "(A) and (B)", "A. B. C.", "A) cat B) dog", "A. dog", "B. dog or cat",
        "cat or dog", "A. cat, B. dog", "B. dog (A)", "E", "F. fox", "both", "a dog", "A cat and a dog", "I think B",
        "B12", "Ca", "ABCD", "A through D", "",
    ],
)  # fmt: skip
def test_naming_several_options_or_none_is_never_right(answer: str) -> None:
    assert chosen_option(answer, PETS) is None
    assert all(OptionChoice()(answer or "x", question(letter, PETS)) is Grade.WRONG for letter in "ABCD")


@given(
    st.lists(st.sampled_from("ABCD"), min_size=2, max_size=4, unique=True),
    st.sampled_from([", ", " and ", "/", " or "]),
)
def test_no_list_of_letters_pays(letters: list[str], mark: str) -> None:
    for text in (mark.join(letters), mark.join(f"({letter})" for letter in letters)):
        assert all(OptionChoice()(text, question(letter, PETS)) is Grade.WRONG for letter in "ABCD")


def test_an_option_that_reads_like_a_letter_or_a_number() -> None:
    blood = ("B", "A", "AB", "O")
    assert [chosen_option(text, blood) for text in ("B", "AB", "b", "B. A", "B. B")] == ["B", "C", "A", "B", None]
    prices = ("$20.00", "$5", "5.0", "5%")
    assert [chosen_option(text, prices) for text in ("20", "$20", "5.00", "5%", "20%")] == ["A", "A", None, "D", None]
    assert chosen_option("same", ("same", "same")) is None, "no letter can be told"
    assert OptionChoice()("A", question("no such option", PETS)) is Grade.UNKNOWN, "the key cannot be read"


def test_votes_are_by_option() -> None:
    same = OptionChoice().same
    asked = question("A", PETS)
    assert same("(B)", "dog", asked) and same("A or B", "a OR b", asked)
    assert not same("A", "B", asked) and not same("A or B", "A", asked) and not same("A or B", "B or C", asked)
    assert same("5.0", "5", question("5"))


@given(st.lists(st.text(alphabet="abcXYZ 019", min_size=1).filter(str.strip), min_size=2, max_size=26))
def test_options_are_read_back_from_the_prompt(options: list[str]) -> None:
    read = listed_options(prompt_with_options("Which?", options))
    assert list(read) == list(LETTERS[: len(options)])
    assert list(read.values()) == [" ".join(text.split()) for text in options]


@settings(deadline=None)
@given(st.text(max_size=60), st.lists(st.text(max_size=20), max_size=10))
def test_no_text_breaks_the_reading(text: str, options: list[str]) -> None:
    assert chosen_option(text, options) in {None, *LETTERS[: len(options)]}


@pytest.mark.parametrize("piece", ["A, ", "(", "A) ", " ", "or ", "\\text{", "**", "B or "])
def test_long_answers_take_linear_time(piece: str) -> None:
    started = time.process_time()
    chosen_option(piece * 20_000, PETS)
    assert time.process_time() - started < 5


# --- Countdown ----------------------------------------------------------------------------------------------------

PUZZLE = question("82 + 41 - 24", numbers="41 82 24", target="99")


@pytest.mark.parametrize(
    "answer",
    ["82 + 41 - 24", "(82-24)+41", "82 + 41 - 24 = 99", r"\boxed{82 + 41 - 24}", "82 − 24 + 41", "-(24 - 82) + 41",
     "82 + 41 - 24 = 123 - 24 = 99"],
)  # fmt: skip
def test_any_expression_of_the_numbers_that_makes_the_target_is_right(answer: str) -> None:
    assert CountdownExpression()(answer, PUZZLE) is Grade.RIGHT


@pytest.mark.parametrize(
    "answer",
    ["99", "82 + 41", "82 + 41 - 24 + 0", "82 + 82 - 41 - 24", "41 + 82 - 24 = 98", "82 + 41 - 24 = ",
    "99 = 82 + 41 - 24",
     "82 + 41 - 24 - 0", "__import__('os')", "8241 - 24", "82 + 41 - 24%", "82 + 41 - $24", "1 / 0", "82 ** 41",
     "(" * 400 + "82 + 41 - 24" + ")" * 400, "82 + 41 - 24 and 1 + 1"],
)  # fmt: skip
def test_anything_else_is_wrong(answer: str) -> None:
    assert CountdownExpression()(answer, PUZZLE) is Grade.WRONG


def test_expressions_are_the_same_if_both_or_neither_are_right() -> None:
    same = CountdownExpression().same
    assert same("82 + 41 - 24", "41 + 82 - 24", PUZZLE) and same("no idea", " no idea ", PUZZLE)
    assert not same("82 + 41 - 24", "82 + 41 + 24", PUZZLE) and not same("99", "82 + 41 - 24", PUZZLE)


def test_every_puzzle_of_three_numbers_is_graded_as_by_brute_force() -> None:
    rng = random.Random(0)
    for _ in range(200):
        numbers, signs = [rng.randint(1, 20) for _ in range(3)], rng.choices("+-*", k=2)
        text = f"({numbers[0]} {signs[0]} {numbers[1]}) {signs[1]} {numbers[2]}"
        apply = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
        value = apply[signs[1]](apply[signs[0]](numbers[0], numbers[1]), numbers[2])
        for given_numbers, target in itertools.product((numbers, [*numbers[:2], numbers[2] + 1]), (value, value + 1)):
            asked = question("", numbers=str(given_numbers), target=str(target))
            expected = Grade.RIGHT if (given_numbers, target) == (numbers, value) else Grade.WRONG
            assert CountdownExpression()(text, asked) is expected


@pytest.mark.parametrize(
    "meta", [{}, {"numbers": "1 2"}, {"numbers": "", "target": "3"}, {"numbers": "1", "target": "x"}]
)
def test_a_question_without_a_puzzle_is_refused(meta: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"(?s)what to make from which numbers.*name these fields"):
        CountdownExpression()("1 + 2", question("", **meta))


def test_a_countdown_number_of_thousands_of_digits_is_bad_data() -> None:
    with pytest.raises(DataError, match="does not say what to make from which numbers"):
        CountdownExpression()("1 + 2", question("3", numbers="1 " + "2" * 5000, target="3"))
