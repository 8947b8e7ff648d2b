"""The answer that a text states last, against hand-read texts and the marks that come with real ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rairl_lightning.text.options import chosen_option
from rairl_lightning.text.statements import argued, final_statement, split_answer

PETS = ("cat", "dog", "cow", "rat")


@pytest.mark.parametrize(
    ("statement", "letter"),
    [
        ("The answer is (B).", "B"), ("the answer is B", "B"), ("The correct answer is B, dog.", "B"),
        ("Answer: (B)", "B"), ("**Answer: B**", "B"), ("**Answer:** (B) dog", "B"), ("answer is C, text.", "C"),
        ("Therefore, among A through D, the answer is B.", "B"), ("The answer is: (B).", "B"),
        ("Therefore, among A through D, the answer is most likely C) cow.", "C"), ("The answer is:\n\n(B)", "B"),
        ("So the best option is dog.", "B"), ("The answer to this question is D, the rat.", "D"),
        (r"Final answer: $\boxed{\text{(B)}}$.", "B"), ("(D) is the correct answer.", "D"), ("Answer: B.\n", "B"),
        ("The answer is B because dogs bark.", "B"), ("The answer is dog (B).", "B"), ("The answer is D--rat.", "D"),
        ("The answer is (E).", "E"),
    ],
)  # fmt: skip
def test_a_letter_is_read_from_what_is_stated(statement: str, letter: str) -> None:
    for before in ("", "Cats purr. ", "First, the answer is (A). Or not?\n"):
        found = final_statement(before + statement, PETS)
        assert found is not None and found.answer == letter
        if statement != "So the best option is dog.":
            without = final_statement(before + statement)
            assert without is not None and without.answer in (letter, "dog (B)"), "the options are not needed"


@pytest.mark.parametrize(
    "statement",
    [
        "The answer is A, B, C, and D.", "the answer is either A or B.", "The answer is (B) and (D).",
        "Answer: (C)&(D)",
        "The answer is (B, C).", "The answer is A) cat and B) dog.", "The answer is B, dog, and D, rat.",
        r"\boxed{A} or \boxed{B}", "Therefore, among A through D, the answer is A through C.",
    ],
)  # fmt: skip
def test_several_letters_are_no_answer(statement: str) -> None:
    for before in ("", "The answer is (A). "):
        assert split_answer(before + statement, PETS) == ((before + statement).strip(), None)
        assert final_statement(before + statement, PETS) is not None, "it is a statement, but of nothing"


@pytest.mark.parametrize(
    "text",
    [
        "", " \n ", "Cats purr.", "The answer is not listed.", "The answer", "the answer is", "Answer:\n",
        "The answer choices are: A. cat", "What is the answer? Let me think", "The answer is not B.",
        "#### Step 1: count the legs", r"x = \boxed{", r"so \boxed{}", "Answer: Let's think step by step.",
        "The answer is not listed, but it is closest to (B).",
    ],
)  # fmt: skip
def test_no_statement(text: str) -> None:
    assert final_statement(text, PETS) is None and split_answer(text, PETS) == (text.strip(), None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 + 2 = 4\n#### 4", "4"), ("She pays.\n#### 1,000", "1,000"), (r"Thus $x = \boxed{\frac{1}{2}}$.",
        r"\frac{1}{2}"),
        ("So the answer is 2.5.", "2.5"), ("The answer is $18.", "$18"), ("The answer is 5 apples.", "5 apples"),
        ("The answer is 3 + 4 = 7 apples.", "7 apples"), ("The answer is x = -5", "-5"), ("The answer is (1, 2).",
        "(1, 2)"),
        ("Final Answer: The final answer is 0. I hope it is correct.", "0"), ("The answer is 5, since 2 + 3 = 5.", "5"),
        (r"x = \boxed{5}, that is, \boxed{5.0}.", "5.0"), ("Step 3: #### 60", "60"), ("balloons#### 600", "600"),
        ("The answer is 5 or 6.", None), (r"\boxed{5} or \boxed{6}", None), ("The answer is 5 or 5.0", "5 or 5.0"),
    ],
)  # fmt: skip
def test_free_answers(text: str, answer: str | None) -> None:
    assert split_answer(text)[1] == answer


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("Cats purr. The answer is (A).", "Cats purr."),
        ("Cats purr.\n\nTherefore, among A through D, the answer is A, cat.", "Cats purr."),
        ("Cats purr. The answer is (A). The answer is (A).", "Cats purr."),
        ("Cats purr. The answer is (B). The answer is (A).", "Cats purr. The answer is (B)."),
        ("Cats purr.\nAnswer: (A)", "Cats purr."),
        (r"Cats purr." "\n\n**Final Answer**\n\n" r"\[ \boxed{A} \]", "Cats purr."),
        ("Cats purr, so the answer is (A).", "Cats purr, so the answer is (A)."),
        ("Dogs bark. The answer is A because cats purr.", "Dogs bark. The answer is A because cats purr."),
        ("The answer is (A). For cats purr.", "The answer is (A). For cats purr."),
        ("The answer is (A).", "The answer is (A)."),
    ],
)
def test_the_answer_is_cut_off_where_it_is_a_sentence_of_its_own(text: str, reasoning: str) -> None:
    assert split_answer(text, PETS) == (reasoning, "A")


def test_a_text_that_only_states_its_answer_does_not_argue() -> None:
    assert argued("The answer is (A). The answer is (A).", PETS) == ("", "A")
    assert argued("among A through D, the answer is A, cat", PETS) == ("", "A")
    assert argued("Cats purr. The answer is (A).", PETS) == ("Cats purr.", "A")
    assert argued("Cats purr", PETS) == ("Cats purr", None)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["The answer is ", "(A)", "B", ". ", "\n", r"\boxed{", "}", "#### ", "5", " or ", "**", "is", "é"]
        )
    )
)
def test_nothing_is_invented_and_nothing_breaks(pieces: list[str]) -> None:
    text = "".join(pieces)
    for options in ((), PETS):
        reasoning, answer = split_answer(text, options)
        assert reasoning in text, "only cut, never written"
        if answer is None:
            assert reasoning == text.strip()
        found = final_statement(text, options)
        assert found is None or 0 <= found.start <= found.end <= len(text)
        assert (found.answer if found else None) == answer


@pytest.mark.parametrize(
    "piece",
    ["The answer is A. ", r"\boxed{", "answer ", "#### ", "the correct answer is (", "answer is\n", " ",
    r" \boxed{1} or",
     "**", "(A) is the correct answer and ", "because ", "answer:**", "among A through B ", "\n"],
)  # fmt: skip
def test_hostile_texts_take_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    split_answer(text, PETS)
    split_answer(text)
    assert time.process_time() - started < 10


DRUGS = ("Alpha blocker", "Beta blocker", "Calcium", "Diuretic")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B), not (A).", "B"), ("So option B is correct.", "B"), ("Therefore, B is correct.", "B"),
        ("The correct answer is B) Beta blocker because A) Alpha blocker is wrong", "B"), ("B", "B"),
        ("The correct answer is option B since (A) and (C) are excluded.", "B"), ("(B) Beta blocker", "B"),
        ("If the answer was A, we would see X. We do not, so it is B.", None), ("Statement B is correct.", None),
        ("So neither A nor B is correct.", None), ("The answer is (B) as well as (A).", None), ("Calm", None),
        ("If dogs bark, the answer is B.", "B"), ("So option B is correct in part.", None),
    ],
)  # fmt: skip
def test_what_is_ruled_out_or_only_supposed_is_no_answer(text: str, letter: str | None) -> None:
    assert split_answer(text, DRUGS)[1] == letter


@pytest.mark.parametrize(
    ("text", "answer"),
    [("The answer is about 3.", "3"), ("The answer is 3 (three).", "3"), ("The answer is about face.", "about face"),
     ("The answer is f (x).", "f (x)")],
)  # fmt: skip
def test_a_number_is_read_without_what_hedges_or_repeats_it(text: str, answer: str) -> None:
    assert split_answer(text)[1] == answer


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("B (not A)", "B"), ("B, not A", "B"), ("Beta blocker (B)", "B"), ("Beta-blocker", "B"), ("B beta", "B"),
     ("Beta blocker (A)", None), ("B alpha", None), ("A alpha", None), ("Gamma-blocker", None)],
)  # fmt: skip
def test_an_option_is_recognised_where_only_one_is_meant(answer: str, letter: str | None) -> None:
    assert chosen_option(answer, DRUGS) == letter
