"""All of the real data sets are read, and what we read off other people's traces is what they say."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from rairl_lightning.data.demonstrations import AIME, Countdown, DemonstrationSource, MedReason, MMLUPro, Splits
from rairl_lightning.data.question_hashes import QuestionHashes
from rairl_lightning.data.traces import ProcessSteps, SampledQuestion, TraceFile
from rairl_lightning.text.chat import parse_completion, render_completion
from rairl_lightning.text.graders import Grade

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not (FOLDER / "mmlu_pro").is_dir(), reason=f"real data is not at {FOLDER}")


@cache
def read(source: DemonstrationSource) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return source.splits()


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        (MMLUPro(str(FOLDER / "mmlu_pro")), (8425, 1199)),
        (MedReason(str(FOLDER / "medreason")), (1014, 1273)),
        (Countdown(str(FOLDER / "countdown")), (1000 - 7 - 1 + 123, 300 - 2 - 1)),
        (AIME(str(FOLDER / "aime")), (0, 60)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_row_is_read_and_right_by_its_own_grader(source: DemonstrationSource, counts: tuple[int, int]) -> None:
    splits = read(source)
    assert (len(splits.train) + len(splits.selection), len(splits.test)) == counts
    for demo in splits.train[:1000] + splits.test[:200]:
        assert source.grader(demo.answer, demo) is Grade.RIGHT
        assert source.grader(None, demo) is Grade.UNANSWERED
    for demo in splits.train:
        parsed = parse_completion(render_completion(demo.reasoning, demo.answer))
        assert parsed.well_formed and (parsed.reasoning, parsed.answer) == (demo.reasoning, demo.answer)


def test_what_countdown_leaves_out_is_told() -> None:
    with pytest.warns(UserWarning) as told:
        Countdown(str(FOLDER / "countdown")).splits()
    messages = " ".join(str(one.message) for one in told)
    assert "7: the answer does not make the target" in messages and "1: a later split has the same puzzle" in messages


MMLU = TraceFile(
    str(FOLDER / "mmlu_pro" / "policy_samples.jsonl.gz"),
    (
        str(FOLDER / "mmlu_pro" / "train.jsonl.gz"),
        str(FOLDER / "mmlu_pro" / "train_questions_without_demo.jsonl.gz"),
    ),
    where={"model": "Phi-3-mini-4k-instruct"},
    limit=3000,
)
MEDICAL = TraceFile(str(FOLDER / "medreason" / "policy_samples.jsonl.gz"))


@pytest.mark.parametrize(("traces", "least"), [(MMLU, 0.995), (MEDICAL, 0.99)], ids=["MMLU-Pro", "medical"])
def test_answers_and_grades_agree_with_the_marks_that_come_with_the_data(traces: TraceFile, least: float) -> None:
    questions = list(traces.questions())
    rows = [
        (answer, grade, record)
        for question in questions
        for answer, grade, record in zip(question.answers, question.grades, question.records, strict=True)
    ]
    marks = {True: Grade.RIGHT, False: Grade.WRONG, None: Grade.UNANSWERED}
    same_answer = sum(answer == record["pred"] for answer, _, record in rows) / len(rows)
    same_grade = sum(grade is marks[record["correct"]] for _, grade, record in rows) / len(rows)
    assert same_answer >= least and same_grade >= least
    for question in questions:
        check_layout(question)


def test_the_training_questions_are_found_again_among_those_of_the_samples() -> None:
    """An id of the samples is one of 8,425 demonstrations, or one of 5 that ask what a demonstration asks."""
    splits = read(MMLUPro(str(FOLDER / "mmlu_pro")))
    known = QuestionHashes.of(one.prompt for one in (*splits.train, *splits.selection))
    prompts = {
        group.demonstration.id: group.demonstration.prompt for group in replace(MMLU, where={}, limit=None)._groups()
    }
    demonstrated = [prompts[one.id] for one in (*splits.train, *splits.selection)]
    assert len(prompts) == 10785 and known.count(demonstrated) == 8425 and known.count(prompts.values()) == 8430
    assert QuestionHashes.of(one.prompt for one in splits.test).count(prompts.values()) == 0


def check_layout(question: SampledQuestion) -> None:
    for completion, answer, number in zip(question.completions, question.answers, question.classes, strict=True):
        parsed = parse_completion(completion)
        assert parsed.answer == answer and parsed.well_formed == (answer is not None) == (number >= 0)


def test_medical_questions_have_six_samples_each_or_one() -> None:
    assert Counter(len(question.completions) for question in MEDICAL.questions()) == {6: 499, 1: 172}


@pytest.mark.parametrize(
    ("name", "rows", "clean"),
    [
        ("processbench_gsm8k.jsonl", 183, 86), ("processbench_math.jsonl", 506, 203), ("mr_gsm8k.jsonl", 307, 0),
        ("mr_ben.jsonl.gz", 2157, 798), ("eic_gsm8k.jsonl", 1378, 599),
    ],
)  # fmt: skip
def test_every_labelled_solution_is_read(name: str, rows: int, clean: int) -> None:
    solutions = ProcessSteps(str(FOLDER / "process" / name)).solutions()
    assert len(solutions) == rows and sum(one.label == -1 for one in solutions) == clean
    assert len({one.id for one in solutions}) == rows


def test_the_answer_of_an_intact_reference_is_the_reference_answer() -> None:
    """EIC's controls are GSM8K's own solutions, so that what is read off them can be checked."""
    source = ProcessSteps(str(FOLDER / "process" / "eic_gsm8k.jsonl"), where={"provenance": "injected-control"})
    solutions = source.solutions()
    assert sum(one.answer is not None for one in solutions) / len(solutions) > 0.99
