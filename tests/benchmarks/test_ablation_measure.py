"""What the ablation measures, on traces whose scores were written by hand; and that the tables ask for no other."""

from __future__ import annotations

import ast
import random
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import ablation_measure
import gates
import pytest
import torch
from ablation_groups import Figure, Group
from ablation_measure import Measurement, Solved, locate, pass_rates, rank
from ablation_table import SECTIONS
from ablation_wanted import WANTED
from torch import Tensor

from rairl_lightning.components import Dense, MeanOverGrid
from rairl_lightning.data.negatives import PerturbedDemonstrations
from rairl_lightning.evaluation.sampling import Answered
from rairl_lightning.functional.localisation import span_tokens
from rairl_lightning.text.perturbations import NumberCorruption, OperatorFlip
from rairl_lightning.types import Rollouts, TokenBatch, TraceIds

QUESTIONS, RIGHT = 4, 6
KINDS = (OperatorFlip(), NumberCorruption())


def means(measurements: list[Measurement]) -> dict[str, float]:
    return {one.metric: one.mean for one in measurements}


def pool(samples: int = 16) -> Answered:
    """Of each question's traces the first six are right, and likelier for half of the questions; the others agree."""
    count = QUESTIONS * samples
    trace = TraceIds([1], [2, 3], [False, True], [(0, 1), (1, 2)])
    tokens = TokenBatch.from_traces([trace] * count, 0)
    right_QN = (torch.arange(samples) < RIGHT).expand(QUESTIONS, samples)
    likelier_QN = right_QN ^ (torch.arange(QUESTIONS) % 2 == 1).unsqueeze(1)
    logprobs_NT = (likelier_QN.float() - 2).reshape(-1, 1) * tokens.completion_mask
    texts = ("",) * count
    rollouts = Rollouts(tokens, logprobs_NT, torch.ones(count, dtype=torch.bool), texts, samples)
    return Answered(rollouts, right_QN, (~right_QN).long())


def judge(paid_QN: Tensor) -> Any:
    """Pays 5 and then -1 where it approves, nothing elsewhere: more on the mean, less at the least."""
    paid_N = paid_QN.reshape(-1, 1).float()
    rewards_NT = torch.cat([torch.zeros_like(paid_N), 5 * paid_N, -paid_N], dim=1)
    reader = SimpleNamespace(granularity=Dense(), pooling=MeanOverGrid())
    return SimpleNamespace(rewards=lambda tokens: rewards_NT, reader=reader)


def test_rank_by_hand() -> None:
    answered = pool()
    found = rank(judge(answered.correct_QN), answered)
    expected = {
        "auroc": 1,
        "auroc_within_prompt": 1,
        "best_of_16/reward": 1,
        "best_of_16/reward_min": 0,
        "best_of_16/vote": 1,  # 6 σ(2) = 5.3 against 10 σ(0) = 5
        "best_of_16/majority": 0,
        "best_of_16/logprob": 0.5,
        "best_of_16/random": RIGHT / 16,
        "best_of_16/oracle": 1,
    }
    assert means(found) == pytest.approx(expected)
    assert all(one.low <= one.mean <= one.high for one in found)
    (logprob,) = (one for one in found if one.metric == "best_of_16/logprob")
    assert logprob.low < 0.5 < logprob.high


def test_rank_of_scores_that_belong_to_other_traces() -> None:
    """Control: where the scores have moved, what rests on them falls, and nothing else."""
    answered = pool()
    straight, moved = (means(rank(judge(answered.correct_QN.roll(by, dims=1)), answered)) for by in (0, 8))
    resting = {"auroc", "auroc_within_prompt", "best_of_16/reward", "best_of_16/reward_min", "best_of_16/vote"}
    assert {name for name in straight if straight[name] != pytest.approx(moved[name])} == resting
    assert moved["auroc"] == pytest.approx(0.2)  # of 10 wrong traces 6 are paid more than a right one, 4 the same
    assert (moved["best_of_16/reward"], moved["best_of_16/vote"]) == pytest.approx((0, 0))


def test_areas_by_hand() -> None:
    """The right trace is ahead in its own question, but question 1 is ahead of question 0 as a whole."""
    scores_QN, correct_QN = torch.tensor([[0.2, 0.1], [0.9, 0.8]]), torch.tensor([[True, False], [True, False]])
    pooled, within = ablation_measure._areas(scores_QN, correct_QN)
    assert (pooled.mean, pooled.low, pooled.high) == (0.75, 0.75, 1)  # 1 where one question is drawn twice
    assert (within.mean, within.low, within.high) == (1, 1, 1)
    permuted = ablation_measure._areas(scores_QN.flip(1), correct_QN)
    assert [one.mean for one in permuted] == [0.25, 0], "negative control"


@dataclass
class Locating:
    """Falls from 1 to -1 where the trace first goes wrong, on some kinds; at the very end on the others."""

    codec: Any
    questions: tuple[Any, ...]
    knows: tuple[str, ...]
    reader: ClassVar[Any] = SimpleNamespace(granularity=Dense())

    @property
    def models(self) -> Any:
        flat = SimpleNamespace(score=lambda tokens, _: SimpleNamespace(logprobs=torch.zeros(tokens.input_ids.shape)))
        return SimpleNamespace(policy=flat)

    def pay(self, tokens: TokenBatch) -> Tensor:
        made = PerturbedDemonstrations(KINDS, self.codec)(self.questions, 1, random.Random("ablation"))
        assert torch.equal(made.tokens.input_ids, tokens.input_ids)
        mask_NT, columns = tokens.completion_mask, torch.arange(tokens.input_ids.shape[1])
        wrong_N = span_tokens(tokens.char_offsets, mask_NT, made.spans).int().argmax(dim=1)
        last_N = (mask_NT * columns).argmax(dim=1)
        known_N = torch.tensor([kind in self.knows for kind in made.kinds])
        return 1 - 2 * (columns >= torch.where(known_N, wrong_N, last_N).unsqueeze(1)).float()


@pytest.fixture(scope="module")
def located(base: Path) -> Any:
    """Figures of a discriminator that knows these kinds of perturbation."""
    codec, questions = gates.full(base).load_codec(), tuple(map(gates.solution, range(12)))

    def figures(*knows: str, suffix: str = "") -> dict[str, float]:
        return means(locate(Locating(codec, questions, knows), questions, KINDS, suffix))

    return figures


def test_locate_by_hand(located: Any) -> None:
    names = [type(kind).__name__ for kind in KINDS]
    both, one, none = located(*names), located(names[0]), located()
    assert all(both[f"hit@1/{name}"] == 1 for name in ("token", "interval", "step", *(f"token/{n}" for n in names)))
    assert (one[f"hit@1/token/{names[0]}"], one[f"hit@1/token/{names[1]}"]) == (1, 0)
    assert 0 < one["hit@1/token"] < 1
    assert none["hit@1/token"] == 0, "negative control"
    assert {both[f"hit@1_logprob/{level}"] for level in ("token", "interval", "step")} == {0}, "flat points nowhere"
    assert 0 < both["chance/token"] <= both["chance/interval"] <= 1 and both["chance/token"] < both["chance/step"] < 1
    assert located(suffix="_x").keys() == {
        name.replace("hit@1_logprob", "hit@1_logprob_x").replace("hit@1/", "hit@1_x/").replace("chance", "chance_x")
        for name in none
    }


class Asked(dict[str, Figure]):
    """Has every figure, and remembers which it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return True

    def __getitem__(self, name: str) -> Figure:
        self.names.add(name)
        return Figure(0.5, 0.4, 0.6)


def wanted() -> set[str]:
    """Every metric that a verdict reads."""
    asked = Asked()
    for _, verdict in WANTED:
        verdict([Group("policy", name, "", "", "", asked) for name in ("R-AIRL", "SFT", "GRPO")])
    return asked.names


def emitted(located: Any, samples: int) -> set[str]:
    """Every metric that a run can have: measured here, or a figure without an interval in ``ablation_runs``."""
    source = Path(ablation_measure.__file__).with_name("ablation_runs.py").read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    exact = {c.args[0].value for c in calls if isinstance(c.func, ast.Name) and c.func.id == "exactly"}  # type: ignore
    answered, solved = pool(samples), Solved(torch.ones(3).double(), torch.ones(3).double())
    measured = [*rank(judge(answered.correct_QN), answered), *pass_rates(solved, solved)]
    return exact | means(measured).keys() | located().keys()


def test_tables_and_verdicts_ask_for_what_is_measured(located: Any) -> None:
    columns = {column.metric for section in SECTIONS for column in section.columns}
    assert columns <= emitted(located, 16)
    assert wanted() <= emitted(located, 16)
    assert {"pass@1/greedy", "gain/sampled", "collapsed", "restorations", "best_of_16/reward_min"} <= wanted()
    assert {"best_of_16/vote", "best_of_16/oracle"} <= columns - emitted(located, 8), "control: of 8 samples"
