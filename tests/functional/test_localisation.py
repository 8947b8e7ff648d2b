import pytest
import reference_localisation as reference
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import (
    chance,
    hits,
    interval_target,
    largest_drop,
    nearby,
    reward_grid,
    score_drops,
    segment_ids,
    span_tokens,
    step_target,
)


@pytest.fixture
def texts(generator, ragged):
    """Ragged completions with tokens of 1 to 4 characters, steps, and a span inside each text."""

    def build(side="right"):
        mask = ragged(rows=40, side=side)
        widths = torch.randint(1, 5, mask.shape, generator=generator) * mask
        stops = widths.cumsum(1)
        offsets = torch.stack([stops - widths, stops], -1) * mask.unsqueeze(-1)
        start = (torch.rand(40, generator=generator) * stops[:, -1]).long()
        spans = torch.stack([start, start + torch.randint(0, 6, (40,), generator=generator)], 1)
        return mask, offsets, spans, torch.rand(mask.shape, generator=generator) < 0.3

    return build


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("baseline", [0.0, -1.5])
def test_largest_drop_agrees_with_the_loop(ragged, generator, every, baseline):
    mask = ragged(rows=40)
    scores = torch.randint(-3, 3, mask.shape, generator=generator).double()  # few values: ties and flat rows
    grid = reward_grid(mask, every=every)
    expected = [reference.largest_drop(s, g, baseline) for s, g in zip(scores.tolist(), grid.numpy(), strict=True)]
    assert largest_drop(scores, grid, mask, baseline).tolist() == expected
    assert (-scores).masked_fill(~grid, -9).argmax(1).tolist() != expected  # control: the minimum is not the drop


def test_worked_example():
    scores = torch.tensor([[9.0, 1.0, 2.0, -1.0, -3.0, 9.0]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 0]]).bool()
    assert largest_drop(scores, mask, mask).tolist() == [3]
    assert largest_drop(scores, reward_grid(mask, every=2), mask).tolist() == [4]


def test_an_error_at_the_first_point_is_found():
    scores, mask = torch.tensor([[-4.0, -4.0, -3.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert largest_drop(scores, mask, mask).tolist() == [0]
    assert largest_drop(scores, mask, mask, baseline=torch.tensor([-4.0])).tolist() == [-1]


@pytest.mark.parametrize("flat", [0.0, -5.0, 5.0])
def test_a_flat_score_points_nowhere_and_misses(flat):
    """The reference's fault 29: argmax of equal drops says "index 1"."""
    mask = torch.ones(1, 5, dtype=torch.bool)
    predicted = largest_drop(torch.full((1, 5), flat), mask, mask)
    assert predicted.tolist() == [-1]
    assert hits(predicted, mask).tolist() == [False]


def test_rising_sparse_and_empty_scores_point_nowhere():
    mask = torch.ones(1, 4, dtype=torch.bool)
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert largest_drop(scores, mask, mask).tolist() == [-1]
    assert largest_drop(-scores, reward_grid(mask), mask).tolist() == [-1]
    assert largest_drop(-scores, ~mask, ~mask).tolist() == [-1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_targets_and_chance_agree_with_the_loop(texts, side):
    mask, offsets, spans, ends = texts(side)
    tokens = span_tokens(offsets, mask, spans)
    levels = [tokens, interval_target(tokens, mask, 4), step_target(tokens, mask, ends)]
    for n in range(len(mask)):
        expected = reference.targets(offsets[n].numpy(), mask[n].numpy(), spans[n].tolist(), 4, ends[n].numpy())
        for level, columns in zip(levels, expected, strict=True):
            assert set(level[n].nonzero().flatten().tolist()) == columns
            assert chance(level, mask)[n].item() == pytest.approx(len(columns) / int(mask[n].sum()))
    assert levels[1].sum() > tokens.sum() and levels[2].sum() > tokens.sum()  # control: the levels do differ


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("every", "within"), [(1, 0), (1, 7), (1, 2), (4, 0), (4, 1)])
def test_what_is_near_agrees_with_the_loop(texts, side, every, within):
    mask, offsets, spans, _ = texts(side)
    tokens, segments = span_tokens(offsets, mask, spans), segment_ids(reward_grid(mask, every=every), mask)
    ours = nearby(tokens, segments, within)
    expected = [reference.near(t, s, within) for t, s in zip(tokens.tolist(), segments.tolist(), strict=True)]
    assert [set(row.nonzero().flatten().tolist()) for row in ours] == expected
    assert not torch.equal(nearby(tokens, segments, within + 1), ours)  # control


def test_a_negative_distance_is_refused():
    with pytest.raises(ConfigError, match="within"):
        nearby(torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.int64), -1)


@pytest.mark.parametrize("baseline", [0.0, 2.0])
def test_drops_agree_with_the_loop(ragged, generator, baseline):
    mask = ragged(rows=20)
    scores, grid = torch.randn(mask.shape, generator=generator).double(), reward_grid(mask, every=3)
    ours = score_drops(scores, grid, mask, baseline)
    for n in range(20):
        expected = reference.drops(scores[n].tolist(), grid[n].numpy(), baseline)
        assert {t: ours[n, t].item() for t in expected} == pytest.approx(expected)
    assert bool((ours[~grid] == -torch.inf).all())
    assert not torch.equal(score_drops(-scores, grid, mask, baseline), ours)  # control


def test_level_reductions(texts):
    mask, offsets, spans, _ = texts()
    tokens = span_tokens(offsets, mask, spans)
    assert torch.equal(interval_target(tokens, mask, 1), tokens)
    assert torch.equal(step_target(tokens, mask, mask), tokens)
    touched = tokens.any(1, keepdim=True)
    assert torch.equal(interval_target(tokens, mask, 10_000), mask & touched)
    assert torch.equal(step_target(tokens, mask, torch.zeros_like(mask)), mask & touched)


def test_chance_is_what_a_random_token_scores(texts, generator):
    mask, offsets, spans, _ = texts()
    target = interval_target(span_tokens(offsets, mask, spans), mask, 4)
    draws = torch.multinomial(mask.float(), 4000, replacement=True, generator=generator)
    frequency = target.gather(1, draws).double().mean(1)
    torch.testing.assert_close(frequency, chance(target, mask), rtol=0, atol=0.05)
    with pytest.raises(AssertionError):  # control: prompt and padding counted as candidates
        torch.testing.assert_close(frequency, chance(target, torch.ones_like(mask)), rtol=0, atol=0.05)


def test_predictions_do_not_depend_on_the_padding_side(generator):
    scores = torch.randn(1, 9, generator=generator)
    right = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 0, 0]]).bool()
    left, moved = right.roll(2, 1), scores.roll(2, 1)
    for every in (1, 2, 4):
        predicted = largest_drop(scores, reward_grid(right, every=every), right)
        assert largest_drop(moved, reward_grid(left, every=every), left).item() == predicted.item() + 2


def test_a_deletion_stands_for_the_next_character():
    offsets = torch.tensor([[[0, 2], [2, 4]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert span_tokens(offsets, mask, torch.tensor([[2, 2]])).tolist() == [[False, True]]
    assert span_tokens(offsets, mask, torch.tensor([[1, 2]])).tolist() == [[True, False]]


def test_interval_of_the_training_grid_is_the_interval_of_the_target():
    """A drop read at an interval's end hits the interval that holds the span, and only that one."""
    mask = torch.tensor([[0, 0, 0] + [1] * 12]).bool()
    grid = reward_grid(mask, every=5)
    target = interval_target(torch.arange(15).unsqueeze(0) == 3 + 6, mask, 5)
    for column, hit in ((12, True), (14, False)):
        scores = -2.0 * (torch.arange(15) >= column).float().unsqueeze(0)
        predicted = largest_drop(scores, grid, mask)
        assert predicted.item() == column
        assert hits(predicted, target).item() is hit


def test_nan_is_refused_on_the_grid_and_ignored_elsewhere():
    mask = torch.ones(1, 4, dtype=torch.bool)
    scores = torch.tensor([[float("nan"), 1.0, float("nan"), 0.0]])
    assert largest_drop(scores, reward_grid(mask, every=2), mask).tolist() == [3]
    with pytest.raises(DataError, match="2 NaN"):
        largest_drop(scores, mask, mask)
