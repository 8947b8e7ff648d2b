import pytest

from rairl_lightning.components import AnswerAgreement, ExpertsOnly


def same_number(a: str, b: str) -> bool:
    return float(a) == float(b)


def test_label_switching_asks_the_demonstration():
    labels = AnswerAgreement()(["5.0", "4", None, "7"], ["5", "5", "5", "7"], same_number)
    assert labels.tolist() == [True, False, False, True]


def test_experts_only():
    assert ExpertsOnly()(["5", None], ["5", "5"], same_number).tolist() == [False, False]


def test_every_rollout_has_its_demonstration():
    """The reference's fault: a silent zip pairs the wrong rows."""
    with pytest.raises(ValueError, match="zip"):
        AnswerAgreement()(["5", "5"], ["5"], same_number)


def test_no_rollouts():
    assert AnswerAgreement()([], [], same_number).shape == (0,)
