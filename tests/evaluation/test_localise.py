"""One trace of eight tokens, corrupted in its fourth."""

import torch

from rairl_lightning.evaluation.localisation import LEVELS, localise
from rairl_lightning.functional.grid import reward_grid
from rairl_lightning.types import Perturbed, TokenBatch, TraceIds

STEPS = [False, False, False, True, False, False, False, True]  # tokens 1-4 and 5-8
OFFSETS = [(2 * i, 2 * i + 2) for i in range(8)]


def perturbed(count: int = 1) -> Perturbed:
    traces = [TraceIds([9, 9], list(range(8)), STEPS, OFFSETS)] * count
    span = torch.tensor([[6, 8]] * count, dtype=torch.int32).reshape(-1, 2)
    return Perturbed(TokenBatch.from_traces(traces, 0), span, torch.arange(count), ("OperatorFlip",) * count)


def scores(*completion: float) -> torch.Tensor:
    return torch.tensor([[0.0, 0.0, *completion]])


HIGH = scores(*[1.0] * 8)


def at(token: int) -> torch.Tensor:
    """A score that falls at one completion token and stays there."""
    return scores(*[1.0] * token, *[-1.0] * (8 - token))


def hit(logits: torch.Tensor, logprobs: torch.Tensor = HIGH, every: int = 2) -> dict[str, dict[str, float]]:
    made = perturbed()
    grid = reward_grid(made.tokens.completion_mask, every=1)
    found = localise(made, logits, grid, logprobs, every)
    return {method: {level: values.item() for level, values in one.items()} for method, one in found.items()}


def test_levels_widen_the_target() -> None:
    assert hit(at(3))["reward"] == {"token": 1, "interval": 1, "step": 1}
    assert hit(at(2))["reward"] == {"token": 0, "interval": 1, "step": 1}, "tokens 3 and 4 are one interval"
    assert hit(at(1))["reward"] == {"token": 0, "interval": 0, "step": 1}
    assert hit(at(4))["reward"] == {"token": 0, "interval": 0, "step": 0}, "the next step"
    assert hit(at(2), every=3)["reward"]["interval"] == 0, "tokens 1 to 3, 4 to 6, 7 and 8"


def test_the_baseline_reads_the_log_probability() -> None:
    found = hit(at(5), logprobs=scores(-0.1, -0.1, -0.1, -6, -0.1, -0.1, -0.1, -0.1))
    assert found["logprob_drop"]["token"] == 1 and found["reward"]["token"] == 0


def test_chance_is_the_share_of_the_target() -> None:
    assert hit(HIGH)["chance"] == {"token": 1 / 8, "interval": 2 / 8, "step": 4 / 8}


def test_a_score_that_never_moves_points_nowhere() -> None:
    assert hit(HIGH)["reward"] == dict.fromkeys(LEVELS, 0.0)


def test_no_trace_gives_no_value() -> None:
    nothing = perturbed(0)
    empty = torch.zeros(0, 0)
    found = localise(nothing, empty, empty.bool(), empty, 2)
    assert all(len(values) == 0 for levels in found.values() for values in levels.values())
