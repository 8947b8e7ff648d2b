"""Nothing is fitted or chosen on the questions that are reported."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reranked import POOLING, scored, some

from rairl_lightning.data.demonstrations.base import hold_out
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.evaluation.calibration import Isotonic, NoCalibration, Temperature
from rairl_lightning.evaluation.reranking.partition import Partition, chosen_pooling, fitted_calibration
from rairl_lightning.evaluation.reranking.pool import ScoredQuestion
from rairl_lightning.evaluation.reranking.report import report_of
from rairl_lightning.text.graders import Grade

OTHER = "Last"


def two_poolings(questions: list[ScoredQuestion], better: str) -> list[ScoredQuestion]:
    """Both read the same rewards, the worse one upside down."""
    out = []
    for one in questions:
        rewards = one.rewards[POOLING]
        upside_down = tuple(-value for value in rewards)
        out.append(
            replace(one, rewards={name: rewards if name == better else upside_down for name in (POOLING, OTHER)})
        )
    return out


def inverted(one: ScoredQuestion) -> ScoredQuestion:
    """Right is wrong."""
    other = {Grade.RIGHT: Grade.WRONG, Grade.WRONG: Grade.RIGHT}
    return replace(one, sampled=replace(one.sampled, grades=tuple(other[grade] for grade in one.sampled.grades)))


@pytest.mark.parametrize("calibration", [Temperature(), Isotonic()])
def test_what_is_fitted_does_not_know_what_is_reported(calibration: Temperature | Isotonic) -> None:
    partition = Partition.by_hash(some(60, 4), 0.5)

    def fitted(part: Partition) -> tuple:
        report, fit = report_of(part, [POOLING], calibration, (2, 4), 0)
        return fit.parameters, report.calibration["parameters"]

    found = fitted(partition)
    assert fitted(replace(partition, reported=tuple(map(inverted, partition.reported)))) == found
    assert fitted(replace(partition, reported=partition.reported[:3])) == found
    assert fitted(replace(partition, selection=tuple(map(inverted, partition.selection)))) != found  # control


def test_the_pooling_is_chosen_on_selection_questions() -> None:
    selection, reported = two_poolings(some(30, 4, seed=1), OTHER), two_poolings(some(30, 4, seed=2), POOLING)
    partition = Partition(tuple(reported), tuple(selection))
    report, _ = report_of(partition, [POOLING, OTHER], NoCalibration(), (2, 4), 0)
    assert report.pooling["chosen"] == OTHER, "though the other is better on the reported questions"
    assert report.pooling["measured"][OTHER] == pytest.approx(1 - report.pooling["measured"][POOLING])
    assert report.best_of["4"]["all"]["over_random"]["reward"][0] < 0
    other = replace(partition, selection=tuple(two_poolings(some(30, 4, seed=1), POOLING)))
    assert chosen_pooling(other, [POOLING, OTHER])[0] == POOLING  # control
    assert chosen_pooling(Partition(tuple(reported)), [POOLING]) == (POOLING, {}), "one alone is not chosen"


def test_traces_without_a_reward_choose_no_pooling() -> None:
    """POOLING ranks the right trace below the one wrong trace it reads; ranking the others last would make that 3/4."""
    nan = float("nan")
    selection = (scored("s", "rwwww", [0.0, 1.0, nan, nan, nan], **{OTHER: [0.0, -1.0, 1.0, 1.0, -1.0]}),)
    name, areas = chosen_pooling(Partition((scored("q", "r", [1.0]),), selection), [POOLING, OTHER])
    assert name == OTHER and areas == {POOLING: 0.0, OTHER: 0.5}


def test_equals_and_nothing_to_measure_leave_the_first() -> None:
    tied = tuple(replace(one, rewards=dict.fromkeys((POOLING, OTHER), one.rewards[POOLING])) for one in some(9, 4))
    assert chosen_pooling(Partition((scored("q", "r", [1.0]),), tied), [OTHER, POOLING])[0] == OTHER
    alike = (replace(scored("s", "rr", [1.0, 2.0]), rewards={POOLING: (1.0, 2.0), OTHER: (2.0, 1.0)}),)
    assert chosen_pooling(Partition((scored("q", "r", [1.0]),), alike), [POOLING, OTHER])[0] == POOLING


def test_a_common_question_is_refused() -> None:
    with pytest.raises(DataError, match="'A question'"):
        Partition((scored("A question", "r", [1.0]),), (scored("a  question", "w", [0.0]),))


def test_questions_are_held_out_by_their_text() -> None:
    questions = some(40, 2)
    partition = Partition.by_hash(questions, 0.4)
    assert 0 < len(partition.selection) < 40 and len(partition.selection) + len(partition.reported) == 40
    backwards = Partition.by_hash(questions[::-1], 0.4)
    assert {one.key for one in backwards.selection} == {one.key for one in partition.selection}
    assert Partition.by_hash(questions, 0).reported == tuple(questions)
    twice = Partition.by_hash([*questions, *questions], 0.4)
    assert len(twice.selection) == 2 * len(partition.selection), "equal questions stay together"


def test_a_selection_split_is_shared_out_too() -> None:
    """Its questions all have a low hash, by which they were held out of training."""
    _, selection_split = hold_out(some(400, 2), 0.1, lambda one: one.sampled.question.prompt)
    partition = Partition.by_hash(selection_split, 0.5)
    assert len(selection_split) > 20
    assert len(partition.reported) == pytest.approx(len(partition.selection), rel=0.6)


def test_refusals() -> None:
    alone = Partition((scored("q", "rw", [1.0, 0.0]),))
    for use in (
        lambda: fitted_calibration(alone, POOLING, Temperature()),
        lambda: chosen_pooling(alone, [POOLING, OTHER]),
    ):
        with pytest.raises(DataError, match="selection questions"):
            use()
    nothing = Partition(alone.reported, (scored("s", "??", [1.0, 0.0]), scored("t", "r", [float("nan")])))
    with pytest.raises(DataError, match="a grade and a reward"):
        fitted_calibration(nothing, POOLING, Isotonic())
    with pytest.raises(DataError, match="nothing to rerank"):
        Partition(())
    with pytest.raises(DataError, match="grade"):
        report_of(Partition((scored("q", "??", [1.0, 0.0]),)), [POOLING], NoCalibration(), (2,), 0)
    with pytest.raises(ConfigError, match="selection_fraction"):
        Partition.by_hash(some(3, 2), 1.0)
