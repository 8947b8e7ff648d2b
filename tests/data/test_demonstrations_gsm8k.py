"""All of real GSM8K is read."""

from pathlib import Path

import pytest

from rairl_lightning.data.demonstrations import GSM8K
from rairl_lightning.text.answers import extract_answer
from rairl_lightning.text.chat import parse_completion, render_completion
from rairl_lightning.text.steps import step_spans

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"real GSM8K is not at {FOLDER}")


@pytest.fixture(scope="module")
def splits():
    return GSM8K(str(FOLDER)).splits()


def test_every_row_is_read(splits):
    assert len(splits.train) + len(splits.selection) == 7473 and len(splits.test) == 1319
    assert 0.04 < len(splits.selection) / 7473 < 0.06


def test_rows_are_clean_and_survive_the_layout(splits):
    for demo in splits.train + splits.selection + splits.test:
        assert "<<" not in demo.reasoning and "####" not in demo.reasoning and "," not in demo.answer
        text = render_completion(demo.reasoning, demo.answer)
        parsed = parse_completion(text)
        assert parsed.well_formed and (parsed.reasoning, parsed.answer) == (demo.reasoning, demo.answer)
        assert extract_answer(text) == demo.answer
        assert len(step_spans(text)) >= 2


def test_a_row_by_hand(splits):
    demo = next(demo for demo in splits.test if demo.id == "gsm8k-test-0")
    assert demo.prompt.startswith("Janet") and demo.answer == "18"
    assert demo.reasoning == (
        "Janet sells 16 - 3 - 4 = 9 duck eggs a day.\nShe makes 9 * 2 = $18 every day at the farmer\u2019s market."
    )
