"""Recorder, probe and the periodic evaluations, on runs of a few rounds."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from lightning import Callback

from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import DiscriminatorProbe, Localisation, Reranking, TraceLogger
from rairl_lightning.components import AnswerAgreement, ExpertsOnly
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.reranking import reward_auroc
from rairl_lightning.evaluation.sampling import answer_questions
from rairl_lightning.module import RAIRL
from rairl_lightning.text.answers import extract_answer
from rairl_lightning.text.chat import render_completion
from rairl_lightning.text.graders import Exact, Grade, Grader, Question

CHOICES = ("reward", "weighted", "majority", "logprob", "shortest", "oracle")
GAIN = ("reward_gain", "reward_gain_low", "reward_gain_high")
RULES = (*CHOICES, *(f"{rule}@2" for rule in CHOICES), "random", *GAIN, "auroc")
FIGURES = ("token", "within_7", "interval", "step", "mrr")
HITS = [f"{method}_{figure}" for method in ("reward", "logprob_drop", "chance") for figure in FIGURES]


def fit(base: Path, folder: Path, *callbacks: Callback, data: Any = None, **settings: Any) -> Any:
    trainer = gates.trainer(folder, callbacks)
    module = gates.module(gates.full(base), **{"warmup": Warmup(0), "rounds": 4, **settings})
    trainer.fit(module, datamodule=data or gates.data())
    return trainer


# --- Recorder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelling", [AnswerAgreement(), ExpertsOnly()])
def test_the_recorder_keeps_what_was_labelled_negative(base: Path, tmp_path: Path, labelling: Any) -> None:
    trainer = fit(base, tmp_path, labelling=labelling, rounds=3)
    buffer, codec = trainer.datamodule.buffer, trainer.lightning_module.codec
    answers = [extract_answer(codec.decode(one.completion_ids)) for one in buffer.sample(99, random.Random(0))]
    if isinstance(labelling, ExpertsOnly):
        assert len(answers) == 3 * 8 and gates.LEFT in answers
    else:
        assert 0 < len(answers) < 3 * 8 and gates.LEFT not in answers


def test_the_sft_initialisation_leaves_nothing_to_replay(base: Path, tmp_path: Path) -> None:
    trainer = gates.trainer(tmp_path, limit_val_batches=1.0)
    sft = SFTInitialisation(1, monitor="log_likelihood")
    trainer.fit(gates.module(gates.full(base), sft=sft, rounds=0, warmup=Warmup(0)), datamodule=gates.data())
    assert trainer.datamodule.buffer.state_dict() == {"rounds": []}


# --- Probe --------------------------------------------------------------------------------------------------------


def test_the_probe_measures_on_the_selection_split_when_it_is_due(base: Path, tmp_path: Path) -> None:
    by_hand: dict[int, float] = {}

    class ByHand(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
            policy, sampler, codec = pl_module.models.policy, pl_module.sampler, pl_module.codec
            questions = trainer.datamodule.examples("selection")[:3]
            answered = answer_questions(policy, sampler, codec, questions, 4, seed=5)
            rewards = answered.per_question(pl_module.trace_rewards(answered.rollouts.tokens))
            by_hand[pl_module.clock.discriminator_updates] = reward_auroc(rewards, answered.correct_QN)

    probe = DiscriminatorProbe(every_n_updates=4, questions=3, samples=4, seed=5)
    trainer = fit(base, tmp_path, probe, ByHand(), warmup=Warmup(8), rounds=4, policy_optimizer=gates.optimizer(1e-2))
    logged = trainer.logger.having("discriminator/heldout_auroc")
    assert list(by_hand) == list(range(2, 17, 2)), "two updates a step"
    assert logged == pytest.approx([by_hand[4], by_hand[8], by_hand[12], by_hand[16]])
    assert trainer.lightning_module.clock.heldout_auroc == pytest.approx(by_hand[16])
    assert len(set(by_hand.values())) > 2, "negative control: it does change"


def test_the_probe_says_nothing_where_all_answers_are_alike(base: Path, tmp_path: Path) -> None:
    class Nowhere(gates.Gates):
        def splits(self) -> Any:
            splits = super().splits()
            wrong = tuple(gates.solution(i, "up") for i in range(8, 12))
            return type(splits)(splits.train, wrong, splits.test)

    trainer = fit(base, tmp_path, DiscriminatorProbe(2, 4, 4), data=gates.data(source=Nowhere()), rounds=2)
    assert trainer.lightning_module.clock.heldout_auroc is None
    assert trainer.logger.having("discriminator/heldout_auroc") == []


# --- Periodic evaluations -----------------------------------------------------------------------------------------


def test_evaluations_run_when_they_are_due_on_the_selection_split(base: Path, tmp_path: Path) -> None:
    reranking = Reranking(every_n_rounds=2, questions=3, samples=4, temperature=1.0)
    trainer = fit(base, tmp_path, reranking, Localisation(every_n_rounds=4, questions=3, interval=5))
    rows = trainer.logger.rows
    round_at = {row["step"]: row["round"] for row in rows if "round" in row}
    due = {name: [round_at[row["step"]] for row in rows if name in row] for row in rows for name in row}
    assert all(due[f"selection/rerank/{rule}"] == [2, 4] for rule in RULES)
    assert all(due[f"selection/localise/{hit}"] == [4] for hit in HITS)
    assert not any(name.startswith("test/") for row in rows for name in row)
    last = {name: value for row in rows for name, value in row.items()}
    assert last["selection/rerank/random"] <= last["selection/rerank/oracle"]
    gain = last["selection/rerank/reward"] - last["selection/rerank/random"]
    assert last["selection/rerank/reward_gain"] == pytest.approx(gain)
    assert last["selection/rerank/reward_gain_low"] <= gain <= last["selection/rerank/reward_gain_high"]
    assert last["selection/rerank/random"] <= last["selection/rerank/oracle@2"] <= last["selection/rerank/oracle"]


def test_the_test_split_is_read_by_test_alone(base: Path, tmp_path: Path) -> None:
    callbacks = [Reranking(2, 3, 4), Localisation(2, 3, 5)]
    trainer = gates.trainer(tmp_path, callbacks)
    trainer.test(gates.module(gates.full(base)), datamodule=gates.data(), verbose=False)
    names = {name for row in trainer.logger.rows for name in row}
    assert {f"test/rerank/{rule}" for rule in RULES} | {f"test/localise/{hit}" for hit in HITS} <= names
    assert {"test/pass@1", "test/format_rate", "test/log_likelihood"} <= names
    assert not any(name.startswith("selection/") for name in names)


def test_evaluations_change_nothing(base: Path, tmp_path: Path) -> None:
    def weights(*callbacks: Callback) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return gates.weights(fit(base, tmp_path, *callbacks).lightning_module)

    watched = weights(Reranking(1, 3, 4), Localisation(1, 3, 5), TraceLogger(1), DiscriminatorProbe(1, 3, 4))
    assert gates.largest_difference(weights(), watched) == 0


def test_nothing_to_evaluate_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Reranking: the selection split is empty"):
        fit(base, tmp_path, Reranking(1, 3, 4), data=gates.data(source=gates.Gates(selection=0)), rounds=1)


def test_localisation_without_an_applicable_perturbation_logs_nothing(base: Path, tmp_path: Path) -> None:
    trainer = fit(base, tmp_path, Localisation(1, 3, 5), data=gates.data(perturbations=[]), rounds=1)
    assert not any("localise" in name for row in trainer.logger.rows for name in row)


def test_traces_are_written_for_people(base: Path, tmp_path: Path) -> None:
    trainer = fit(base, tmp_path, TraceLogger(every_n_rounds=2, questions=3))
    rows = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [2] * 3 + [4] * 3
    examples = trainer.datamodule.examples("selection")[:3]
    assert [(row["id"], row["prompt"]) for row in rows[3:]] == [(one.id, one.prompt) for one in examples]
    for row in rows:
        assert row["correct"] == (extract_answer(row["completion"]) == gates.LEFT) and abs(row["reward"]) <= 5
        assert row["finished"] is row["completion"].endswith("</answer>"), "the base ends its turn there"
    read = [json.loads(line) for line in (tmp_path / "token_rewards.jsonl").read_text().splitlines()]
    assert [row["source"] for row in read] == (["policy"] * 3 + ["expert"] * 3) * 2
    assert [row["completion"] for row in read if row["source"] == "policy"] == [row["completion"] for row in rows]
    for row in read:
        tokens, count = row["tokens"], len(row["tokens"]["offsets"])
        assert sum(tokens["reward"]) / count == pytest.approx(row["reward"], abs=2e-4), "the mean over the tokens"
        assert tokens["grid"] == [1] * count and max(tokens["logprob"]) <= 0 and len(tokens["logprob"]) == count
    experts = [row["completion"] for row in read if row["source"] == "expert"]
    assert experts[:3] == [render_completion(one.reasoning, one.answer) for one in examples]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reranking(every_n_rounds=0),
        lambda: Localisation(questions=0),
        lambda: TraceLogger(questions=0),
        lambda: DiscriminatorProbe(every_n_updates=0),
        lambda: DiscriminatorProbe(samples=0),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match=">= 1"):
        make()


def test_answers_are_graded_as_the_data_says(base: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Everything(Grader):
        def __call__(self, answer: str | None, question: Question) -> Grade:
            return Grade.RIGHT

        def same(self, first: str, second: str, question: Question) -> bool:
            return True

    rates = []
    for grader in (Exact(), Everything()):
        data = gates.data()
        data.grader = grader
        trainer = gates.trainer(tmp_path, [Reranking(questions=4, samples=2)])
        trainer.test(gates.module(gates.full(base)), datamodule=data, verbose=False)
        rates.append([float(trainer.callback_metrics[f"test/{name}"]) for name in ("rerank/random", "pass@1")])
    assert rates[1] == [1.0, 1.0] and min(rates[0]) < 1.0
