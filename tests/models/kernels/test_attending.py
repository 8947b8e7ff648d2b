"""Compiled attention of a packed row against each token's own softmax in float64."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from rairl_lightning.native import attending, why_not
from rairl_lightning.native.attending import PIECES, Plan, Stretch

SCALE = 0.3
ROWS = {
    "a prompt of four": [Stretch(0, 37), *(Stretch(37 + 50 * n, 50, 0) for n in range(4))],
    "two prompts and empty ones": [
        Stretch(0, 5),
        Stretch(5, 0),
        Stretch(5, 33),
        Stretch(38, 1, 2),
        Stretch(39, 0, 0),
        Stretch(39, 20, 1),
        Stretch(59, 7, 2),
    ],
    "whole traces": [Stretch(0, 1), Stretch(1, 150), Stretch(151, 16)],
    "one": [Stretch(0, 70)],
    "one token": [Stretch(0, 1)],
}
# heads, groups, size: sizes that vectors divide and others, heads apart, together, and more than a block has rows
SHAPES = [(9, 3, 64), (2, 2, 20), (5, 1, 3), (98, 2, 8)]


@pytest.fixture(autouse=True)
def compiled() -> None:
    if not attending.available():
        pytest.skip(f"nothing compiled: {why_not('attending')}")


def tokens_of(stretches: Sequence[Stretch]) -> int:
    return sum(stretch.length for stretch in stretches)


def drawn(tokens: int, shape: tuple[int, int, int], seed: int = 0) -> list[Tensor]:
    """Queries, keys, values and a gradient."""
    generator, (heads, groups, size) = torch.Generator().manual_seed(seed), shape
    return [torch.randn(tokens, count, size, generator=generator) for count in (heads, groups, groups, heads)]


def wanted(stretches: Sequence[Stretch], given: Sequence[Tensor], scale: float = SCALE) -> list[Tensor]:
    """The output and three gradients: token after token, with all that it reads in a list."""
    query, keys, values = (one.double().requires_grad_() for one in given[:3])
    shared = query.shape[1] // keys.shape[1]
    out = {}
    for stretch in stretches:
        prompt = Stretch(0, 0) if stretch.prompt is None else stretches[stretch.prompt]
        before = range(prompt.start, prompt.start + prompt.length)
        for token in range(stretch.start, stretch.start + stretch.length):
            read = [*before, *range(stretch.start, token + 1)]
            k, v = (one[read].repeat_interleave(shared, dim=1) for one in (keys, values))
            weights = torch.einsum("hd,thd->ht", query[token], k).mul(scale).softmax(dim=1)
            out[token] = torch.einsum("ht,thd->hd", weights, v)
    found = torch.stack([out[token] for token in range(len(query))])
    return [found.detach(), *torch.autograd.grad(found, (query, keys, values), given[3].double())]


def ours(stretches: Sequence[Stretch], given: Sequence[Tensor], scale: float = SCALE, threads: int = 1) -> list[Tensor]:
    plan = Plan.of(stretches)
    out = attending.attend(plan, *given[:3], scale, threads)
    return [out, *attending.attend_back(plan, *given, scale, threads)]


def close(found: Sequence[Tensor], expected: Sequence[Tensor], within: float = 5e-6) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(bool((one - other).abs().max() <= within * (1 + other.abs().max())) for one, other in pairs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("row", ROWS)
def test_all_is_that_of_float64(row: str, shape: tuple[int, int, int]) -> None:
    stretches = ROWS[row]
    given = drawn(tokens_of(stretches), shape)
    expected = wanted(stretches, given)
    assert close(ours(stretches, given), expected)
    if row != "one token":
        assert not close(ours(stretches, given, 1.001 * SCALE), expected), "the tolerance tells another scale"


def test_scores_far_apart_leave_no_other_number() -> None:
    stretches = ROWS["a prompt of four"]
    given = drawn(tokens_of(stretches), (4, 2, 16))
    given[0] *= 100
    assert close(
        ours(stretches, given), wanted(stretches, given), within=1e-4
    )  # scores of hundreds have few digits left


@pytest.mark.parametrize("row", ROWS)
def test_threads_change_no_bit(row: str) -> None:
    stretches = ROWS[row]
    given = drawn(tokens_of(stretches), (6, 3, 24))
    alone = ours(stretches, given)
    for threads in (2, 3, 2, 2):
        assert all(map(torch.equal, ours(stretches, given, threads=threads), alone))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_memory_held_does_not_matter(shape: tuple[int, int, int]) -> None:
    stretches = ROWS["two prompts and empty ones"]
    given, plan = drawn(tokens_of(stretches), shape), Plan.of(stretches)
    expected = ours(stretches, given)
    plan.room(10_000_000).fill_(torch.nan)
    out = attending.attend(plan, *given[:3], SCALE, 1)
    plan.room(0).fill_(torch.nan)
    assert all(map(torch.equal, [out, *attending.attend_back(plan, *given, SCALE, 1)], expected))


def test_the_order_of_stretches_and_their_company_do_not_matter() -> None:
    """Completions in another order, and two of them alone, give the same; the prompt's gradients add up."""
    stretches, shape = ROWS["a prompt of four"], (4, 2, 16)
    given = drawn(tokens_of(stretches), shape)
    expected = ours(stretches, given)
    order = [*range(37), *range(137, 237), *range(37, 137)]
    turned = ours(stretches, [one[order] for one in given])
    assert close(turned, [one[order].double() for one in expected])
    shares = []
    for own in (range(37, 137), range(137, 237)):
        places = [*range(37), *own]
        part = [one[places] for one in given]
        part[3][:37] /= 2  # what comes of the prompt counts in both halves
        shares.append(ours(stretches[:3], part))
        assert close([shares[-1][0]], [expected[0][places].double()])
        assert close([one[37:] for one in shares[-1][1:]], [one[list(own)].double() for one in expected[1:]])
    sums = [one[:37] + other[:37] for one, other in zip(shares[0][1:], shares[1][1:], strict=True)]
    assert close(sums, [one[:37].double() for one in expected[1:]])
    assert not close([shares[0][2][:37]], [expected[2][:37].double()]), "the tolerance tells a half"


def test_tokens_do_not_see_what_comes_after_or_another_completion() -> None:
    stretches = ROWS["a prompt of four"]
    given = drawn(tokens_of(stretches), (4, 2, 16))
    before = ours(stretches, given)[0]
    readers = list(range(60, 87))  # from the 24th token of the first completion on
    others = [token for token in range(len(before)) if token not in readers]
    given[1][60], given[2][60] = 3, -1000
    after = ours(stretches, given)[0]
    assert torch.equal(after[others], before[others]) and not torch.equal(after[readers], before[readers])


@pytest.mark.parametrize("which", range(3))
def test_what_is_no_number_does_not_go_away(which: int) -> None:
    stretches = ROWS["a prompt of four"]
    given = drawn(tokens_of(stretches), (4, 2, 16))
    given[which][60] = torch.nan
    out, *gradients = ours(stretches, given)
    readers = range(60, 87 if which else 61)
    assert bool(out[list(readers)].isnan().all()) and bool(gradients[0][60].isnan().all())
    assert bool(out[:37].isfinite().all()) and bool(out[87:].isfinite().all())


def test_layouts_other_than_rows_are_read_right() -> None:
    stretches = ROWS["whole traces"]
    given = drawn(tokens_of(stretches), (6, 2, 8))
    strided = [one.transpose(0, 1).contiguous().transpose(0, 1) for one in given]
    assert not strided[0].is_contiguous()
    assert all(map(torch.equal, ours(stretches, strided), ours(stretches, given)))


@pytest.mark.parametrize("row", ROWS)
def test_pieces_hold_every_query_once_and_about_as_much_work(row: str) -> None:
    stretches = ROWS[row]
    plan = Plan.of(stretches)
    held = [[] for _ in stretches]
    for stretch, first, last, prompt, _ in plan.pieces.tolist():
        assert prompt == (-1 if stretches[stretch].prompt is None else stretches[stretch].prompt)
        held[stretch] += range(first, last)
    assert [sorted(one) for one in held] == [list(range(stretch.length)) for stretch in stretches]
    if row == "one":
        assert 2 < len(plan.pieces) <= PIECES
