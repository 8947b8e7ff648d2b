"""Each feature sees what it is called after, and as little else as can be."""

import math

import pytest

from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.surface import NUMBER_FEATURES, SYMBOL_FEATURES, Family, surface

TEXT = render_completion("Ann has 12 eggs.\nShe sells 3, so 12 - 3 = 9.\nShe buys 2.5 more.", "11.5")

PLANTED = {
    "characters": TEXT + "x",
    "words": TEXT.replace("Ann has", "Annhas"),
    "lines": TEXT.replace("eggs.\n", "eggs. "),
    "steps": TEXT.replace("eggs.\n", "eggs. "),
    "numbers": TEXT.replace("12 eggs", "twelve eggs"),
    "answer_characters": TEXT.replace("11.5", "11.50"),
    "well_formed": TEXT.replace("</answer>", ""),
    "think_opened": TEXT.replace("<think>", ""),
    "think_closed": TEXT.replace("</think>", ""),
    "answer_opened": TEXT.replace("<answer>", ""),
    "answer_closed": TEXT + "</answer>",
    "tags_on_own_line": TEXT.replace("<answer>\n", "<answer>"),
    "before_tags": f"Sure! {TEXT}",
    "after_tags": f"{TEXT}\nI hope that helps.",
    "leading_space": f" {TEXT}",
    "trailing_space": f"{TEXT} ",
    "line_end_spaces": TEXT.replace("eggs.\n", "eggs. \n"),
    "indented_lines": TEXT.replace("\nShe sells", "\n  She sells"),
    "blank_lines": TEXT.replace("eggs.\n", "eggs.\n\n"),
    "double_spaces": TEXT.replace("Ann has", "Ann  has"),
    "odd_spaces": TEXT.replace("Ann has", "Ann\u00a0has"),
    "spaces_before_punctuation": TEXT.replace("eggs.", "eggs ."),
    "digit_share": TEXT.replace("12", "ab"),
    "punctuation_share": TEXT.replace("eggs.", "eggs"),
    "capital_share": TEXT.lower(),
    "non_ascii_share": TEXT.replace("Ann", "Änn"),
    "word_length": TEXT.replace("eggs", "chickens"),
    "decimals": TEXT.replace("12 eggs", "12.1 eggs"),
    "decimal_zeros": TEXT.replace("2.5", "2.50"),
    "thousands_separators": TEXT.replace("12 eggs", "1,200 eggs"),
    "spaced_operators": TEXT.replace("12 - 3 = 9", "12-3=9"),
    "equals_signs": TEXT.replace("= 9", "is 9"),
    "currency_signs": TEXT.replace("12 eggs", "$12"),
    "calculator_marks": TEXT.replace("= 9", "= <<12-3=9>>9"),
    "markup": TEXT.replace("12 eggs", "**12** eggs"),
    "full_stops": TEXT.replace("eggs.", "eggs"),
    "first_words": TEXT.replace("Ann has", "Bob has"),
    "last_words": TEXT.replace("more.", "again."),
}
ONLY = ("leading_space", "trailing_space")  # besides the length in characters and shares of it


def features(text: str) -> dict[str, object]:
    seen = surface(text)
    return {**seen.numbers, **seen.symbols}


def test_every_feature_has_its_example() -> None:
    assert PLANTED.keys() == NUMBER_FEATURES.keys() | SYMBOL_FEATURES.keys()


@pytest.mark.parametrize("name", PLANTED)
def test_a_feature_sees_what_it_is_called_after(name: str) -> None:
    assert features(PLANTED[name])[name] != features(TEXT)[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("words", 22), ("lines", 7), ("steps", 4), ("numbers", 7), ("answer_characters", 4), ("well_formed", True)),
        *(("think_opened", 1), ("think_closed", 1), ("answer_opened", 1), ("answer_closed", 1)),
        *(("tags_on_own_line", 1), ("spaced_operators", 1), ("equals_signs", 1), ("decimals", 2 / 7)),
        *((name, 0) for name in ("before_tags", "after_tags", "leading_space", "trailing_space", "line_end_spaces")),
        *((name, 0) for name in ("indented_lines", "blank_lines", "double_spaces", "odd_spaces", "decimal_zeros")),
        *((name, 0) for name in ("spaces_before_punctuation", "non_ascii_share", "thousands_separators")),
        *((name, 0) for name in ("currency_signs", "calculator_marks", "markup")),
        ("first_words", ("0 Ann", "1 has", "2 12")),
        ("last_words", ("0 more.", "1 2.5")),
    ],
)
def test_counts_by_hand(name: str, value: object) -> None:
    assert features(TEXT)[name] == value


def test_counts_are_counted() -> None:
    seen = surface("  a  b  c \n\n\n\td ,e \r\n1,000 and 20,000 are $5 x 1.0 \n")
    wanted = {"leading_space": 2, "double_spaces": 2, "blank_lines": 2, "odd_spaces": 2, "trailing_space": 2}
    wanted |= {"line_end_spaces": 2, "indented_lines": 1, "spaces_before_punctuation": 1, "thousands_separators": 2}
    assert {name: seen.numbers[name] for name in wanted} == wanted


@pytest.mark.parametrize("name", ONLY)
def test_outer_white_space_is_seen_by_its_own_feature_and_lengths_alone(name: str) -> None:
    before, after = features(TEXT), features(PLANTED[name])
    others = {other for other in before if before[other] != after[other]} - {name}
    assert others <= {"characters", "digit_share", "punctuation_share"}


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n", "<think>", "</answer><answer>", "<think>\n2 + ", "🙂" * 9, "\x00\ufffd", ",,..", "9" * 500],
)
def test_any_text_is_measured(text: str) -> None:
    assert all(math.isfinite(value) for value in surface(text).numbers.values())


def test_families_and_meanings_are_given() -> None:
    for feature in (*NUMBER_FEATURES.values(), *SYMBOL_FEATURES.values()):
        assert feature.meaning and feature.family in Family
