"""What the verifier pays, by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from rairl_lightning.components import AnswerAndFormat
from rairl_lightning.errors import ConfigError
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.graders import Grade, Grader, OptionChoice, Question
from rairl_lightning.types import Demonstration


def asked(*answers: str) -> list[Demonstration]:
    return [Demonstration("q", "?", "", answer, options=("3 apples", "4 pears")) for answer in answers]


GOOD = render_completion("1 + 2 = 3", "3")
TEXTS = {
    GOOD: (True, True),
    render_completion("1 + 2 = 3", "3.0"): (True, True),
    render_completion("1 + 2 = 4", "4"): (False, True),
    "<answer>3</answer>": (True, False),
    f"{GOOD} and more": (True, False),
    "<think>\n1 + 2 = 3\n</think>\n<answer>\n3": (False, False),  # cut off
    "<answer>3</answer><answer>4</answer>": (False, False),  # it hedges
    "": (False, False),
}


@pytest.mark.parametrize(("answer", "form"), [(1.0, 0.1), (0.7, 0.0), (0.0, 2.0)])
def test_the_reward_agrees_with_the_sum(answer: float, form: float) -> None:
    paid = AnswerAndFormat(answer, form)(list(TEXTS), asked(*["3"] * len(TEXTS))).numpy()
    expected = np.array([[right, formed] for right, formed in TEXTS.values()]) @ np.array([answer, form])
    assert paid.dtype == np.float32 and np.allclose(paid, expected, atol=1e-6)
    swapped = np.array([[formed, right] for right, formed in TEXTS.values()]) @ np.array([answer, form])
    assert not np.allclose(paid, swapped, atol=1e-6), "negative control: the weights are not interchangeable"


def test_each_trace_is_held_to_its_own_demonstration() -> None:
    assert AnswerAndFormat(1.0, 0.0)([GOOD, GOOD], asked("3", "4")).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="zip"):
        AnswerAndFormat()([GOOD, GOOD], asked("3"))


def test_what_is_right_is_the_graders_to_say() -> None:
    text = render_completion("An apple a day.", "3 apples")
    assert AnswerAndFormat(1.0, 0.0, OptionChoice())([text, text], asked("A", "B")).tolist() == [1.0, 0.0]
    assert AnswerAndFormat(1.0, 0.0)([text], asked("A")).tolist() == [0.0], "negative control: the text is no letter"


def test_what_nobody_can_grade_is_not_paid() -> None:
    @dataclass(frozen=True)
    class Puzzled(Grader):
        def __call__(self, answer: str | None, question: Question) -> Grade:
            return Grade.UNKNOWN

    assert AnswerAndFormat(1.0, 0.5, Puzzled())([GOOD], asked("3")).tolist() == [0.5]


@pytest.mark.parametrize("wrong", [(-1.0, 0.1), (1.0, -0.1), (0.0, 0.0), (float("nan"), 1.0)])
def test_what_cannot_pay_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ConfigError):
        AnswerAndFormat(*wrong)
