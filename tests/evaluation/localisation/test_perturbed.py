"""One trace of eight tokens, corrupted in its fourth."""

import math

import pytest
import torch

from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.localisation import LEVELS, Located, Reading, localise, locate
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


# --- Every figure ---------------------------------------------------------------------------------------------------

WIDE = ("token", "within_7", "interval", "within_1_interval", "step")


def found(pay: torch.Tensor, every: int = 2, grid_every: int = 1) -> Located:
    made = perturbed()
    grid = reward_grid(made.tokens.completion_mask, every=grid_every)
    return locate(made, {"reward": Reading(pay, grid)}, every)["reward"]


def values(located: Located, figure: int) -> dict[str, float]:
    return {level: one[figure].item() for level, one in located.levels.items()}


def test_ranks_worked_by_hand() -> None:
    """Drops of the tokens: -1 0 0 2 0 3 0 0; token 4 is changed, token 6 falls most."""
    located = found(scores(1, 1, 1, -1, -1, -4, -4, -4))
    assert located.columns_N.tolist() == [2 + 5]
    assert values(located, 0) == {"token": 0, "within_7": 1, "interval": 0, "within_1_interval": 1, "step": 0}
    assert values(located, 1) == {
        "token": 1 / 2,
        "within_7": 1,
        "interval": 1 / 2,  # intervals fall by 0, 2, 3, 0
        "within_1_interval": 1,
        "step": 1 / 2,
    }
    precision = values(located, 2)
    assert precision["token"] == 1 / 2 and precision["step"] == 1 / 2
    assert precision["within_1_interval"] == pytest.approx((1 + 1 + (3 / 3 + 3 / 4) / 2) / 3), "0 and 0 tie"


def test_ranks_of_intervals_read_at_their_ends() -> None:
    """A unit in which nothing is read cannot be found; the levels of the grid itself can."""
    located = found(scores(9, 1, 9, -1, 9, -2, 9, -2), every=2, grid_every=2)
    assert located.columns_N.tolist() == [2 + 3]
    assert values(located, 0) == dict.fromkeys(WIDE, 1.0)
    odd = found(scores(9, 9, 1, 9, 9, -1, 9, -1), every=3, grid_every=3)  # points 3, 6 and 8; token 4 is never read
    assert values(odd, 0)["token"] == 0 == values(odd, 1)["token"] and values(odd, 1)["interval"] == 1


def test_the_levels_of_both_readings_are_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    made = perturbed(20)
    pay, grid = torch.randn(20, 10, generator=generator), reward_grid(made.tokens.completion_mask, every=1)
    short = localise(made, pay, grid, -pay.abs(), 2)
    long = locate(made, {"reward": Reading(pay, grid), "logprob_drop": Reading(-pay.abs(), grid)}, 2)
    for method, levels in short.items():
        for level, hit in levels.items():
            assert torch.equal(long[method].levels[level].hit, hit)
    assert bool((long["reward"].levels["token"].reciprocal_rank >= short["reward"]["token"]).all())


def test_chance_is_exact() -> None:
    """One of eight tokens, ranked at random: 1/8 hits, and the mean of 1/rank is the harmonic number over eight."""
    by_chance = locate(perturbed(), {}, 2)["chance"]
    harmonic = sum(1 / rank for rank in range(1, 9)) / 8
    assert values(by_chance, 0) == {
        "token": 1 / 8,
        "within_7": 1,
        "interval": 1 / 4,
        "within_1_interval": 3 / 4,
        "step": 1 / 2,
    }
    assert values(by_chance, 1)["token"] == pytest.approx(harmonic) == values(by_chance, 2)["token"]
    assert values(by_chance, 1)["step"] == (1 + 1 / 2) / 2
    generator = torch.Generator().manual_seed(0)
    made = perturbed(4000)
    falls = torch.rand(4000, 10, generator=generator)
    falls[:, :2] = 0  # the prompt
    random = Reading(-falls.cumsum(1), reward_grid(made.tokens.completion_mask, every=1))
    drawn = locate(made, {"reward": random}, 2)["reward"]
    for level in ("token", "within_7"):  # every token falls, by a random amount
        for figure in range(3):
            assert drawn.levels[level][figure].mean().item() == pytest.approx(
                values(by_chance, figure)[level], abs=0.02
            )
    assert drawn.levels["step"].hit.mean().item() == pytest.approx(1 / 2, abs=0.03)


@pytest.mark.parametrize("flat", [0.0, 3.0, -3.0])
def test_a_flat_reward_finds_nothing(flat: float) -> None:
    located = found(scores(*[flat] * 8))
    assert located.columns_N.tolist() == [-1] and not located.broken_N.any()
    assert all(value.tolist() == [0] for level in located.levels.values() for value in level)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_broken_reward_finds_nothing_and_spoils_no_other(bad: float) -> None:
    made = perturbed(2)
    pay = torch.cat([scores(1, 1, bad, -1, -1, -1, -1, -1), at(3)])
    grid = reward_grid(made.tokens.completion_mask, every=1)
    located = locate(made, {"reward": Reading(pay, grid)}, 2)["reward"]
    assert located.broken_N.tolist() == [True, False] and located.columns_N.tolist() == [-1, 2 + 3]
    assert all(value[0] == 0 for level in located.levels.values() for value in level)
    assert all(level.hit[1] == 1 for level in located.levels.values())
    off_grid = locate(made, {"reward": Reading(pay, reward_grid(made.tokens.completion_mask, every=4))}, 2)["reward"]
    assert not off_grid.broken_N.any(), "what is not read does not count"
    with pytest.raises(DataError, match="not finite"):
        localise(made, pay, grid, pay, 2)


def test_nothing_depends_on_padding_order_or_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    traces = []
    for length in (8, 5, 12, 9):
        ends = [t % 3 == 2 for t in range(length)]
        traces.append(
            TraceIds([9] * (length % 3 + 1), list(range(length)), ends, [(2 * i, 2 * i + 2) for i in range(length)])
        )
    spans = torch.tensor([[6, 8], [2, 5], [10, 11], [0, 1]], dtype=torch.int32)
    numbers = [torch.randn(len(one.completion_ids), generator=generator) for one in traces]

    def read(rows: list[int], side: str) -> Located:
        tokens = TokenBatch.from_traces([traces[row] for row in rows], 0, side=side)
        pay = torch.full(tokens.input_ids.shape, 99.0)
        for n, row in enumerate(rows):
            pay[n, tokens.completion_mask[n]] = numbers[row]
        made = Perturbed(tokens, spans[rows], torch.tensor(rows), ("x",) * len(rows))
        return locate(made, {"reward": Reading(pay, reward_grid(tokens.completion_mask, every=2))}, 3)["reward"]

    whole = read([0, 1, 2, 3], "right")
    for rows, side in (([0, 1, 2, 3], "left"), ([3, 1, 0, 2], "right"), ([2], "right"), ([1, 3], "left")):
        part = read(rows, side)
        for level, one in whole.levels.items():
            assert all(torch.equal(a[rows], b) for a, b in zip(one, part.levels[level], strict=True))
    assert len({one.hit.tolist().__str__() for one in whole.levels.values()}) > 1, "control"


def test_no_trace_is_located_nowhere() -> None:
    assert locate(perturbed(0), {"reward": Reading(torch.zeros(0, 0), torch.zeros(0, 0).bool())}, 2) == {}
