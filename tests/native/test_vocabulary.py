"""A softmax over blocks of a vocabulary against one over all of it, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rairl_lightning.functional import frozen_head
from rairl_lightning.functional.frozen_head import FrozenHead
from rairl_lightning.native import vocabulary, why_not

pytestmark = pytest.mark.skipif(not vocabulary.available(), reason=f"no compiled code here: {why_not('vocabulary')}")

ROWS, HIDDEN = 7, 12


def expected(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """By autograd over the whole vocabulary."""
    wide = states.double().requires_grad_(True)
    logits = wide @ weight.double().t() + (0.0 if bias is None else bias.double())
    logprobs = (logits / temperature).log_softmax(-1)
    chosen = logprobs.gather(1, targets[:, None]).squeeze(1)
    (gradient,) = torch.autograd.grad(chosen.sum(), wide)
    return chosen.detach(), torch.special.entr(logprobs.exp()).sum(-1).detach(), gradient


def case(size: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(ROWS, HIDDEN) * scale, torch.randint(size, (ROWS,)), torch.randn(size, HIDDEN)


def compare(found, wanted, tolerance: float = 2e-5) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours.double() / scale, theirs / scale, atol=tolerance, rtol=0)
        with pytest.raises(AssertionError):  # the tolerance tells a neighbour's row
            torch.testing.assert_close(ours.double().roll(1, 0) / scale, theirs / scale, atol=tolerance, rtol=0)


@pytest.mark.parametrize("size", [1, 5, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("biased", [False, True])
def test_against_the_whole_vocabulary(size: int, temperature: float, biased: bool) -> None:
    states, targets, weight = case(size)
    bias = torch.randn(size) if biased else None
    found = vocabulary.head_statistics(states, targets, weight, bias, temperature, direction=True)
    wanted = expected(states, targets, weight, bias, temperature)
    if size == 1:
        assert all(one.abs().max() < 1e-6 for one in found if one is not None)
        return
    compare(found, wanted)


def test_a_target_in_every_block_and_at_its_ends() -> None:
    size, block = 3 * vocabulary.BLOCK + 10, vocabulary.BLOCK
    targets = torch.tensor([0, block - 1, block, 2 * block - 1, 3 * block, size - 1, 17])
    states, _, weight = case(size)
    found = vocabulary.head_statistics(states, targets, weight, None, 1.0, direction=True)
    compare(found, expected(states, targets, weight, None, 1.0))


def test_logits_that_grow_and_that_fall_from_block_to_block() -> None:
    size = 4 * vocabulary.BLOCK
    states, targets, weight = case(size)
    for slope in (torch.linspace(0, 300, size), torch.linspace(300, 0, size)):
        found = vocabulary.head_statistics(states, targets, weight, slope, 1.0, direction=True)
        wanted = expected(states, targets, weight, slope, 1.0)
        compare(found[::2], wanted[::2])
        torch.testing.assert_close(found[1].double(), wanted[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("forbidden", [slice(0, 1500), slice(1000, None), slice(3, 4)], ids=str)
def test_forbidden_tokens_add_nothing(forbidden: slice) -> None:
    states, _, weight = case(2500)
    bias = torch.zeros(2500)
    bias[forbidden] = -torch.inf
    allowed = (bias == 0).nonzero().squeeze(1)
    targets = allowed[torch.randint(len(allowed), (ROWS,))]
    found = vocabulary.head_statistics(states, targets, weight, bias, 1.0, direction=True)
    places = torch.searchsorted(allowed, targets)
    compare(found, expected(states, places, weight[allowed], None, 1.0))
    gone = (bias != 0).nonzero().squeeze(1)[:1].expand(ROWS)
    chosen, entropy, _ = vocabulary.head_statistics(states, gone, weight, bias, 1.0, direction=False)
    assert (chosen == -torch.inf).all()
    torch.testing.assert_close(entropy, found[1])


def test_a_token_that_is_nearly_certain() -> None:
    """Its gradient is small and not lost: 1 - π is what the others have."""
    weight = torch.zeros(3000, HIDDEN)
    weight[7], weight[8, 0] = 1.0, 1.0
    states, targets = torch.full((1, HIDDEN), 2.5), torch.tensor([7])
    chosen, entropy, direction = vocabulary.head_statistics(states, targets, weight, None, 1.0, direction=True)
    wanted = expected(states, targets, weight, None, 1.0)
    assert direction is not None and wanted[0].item() > -1e-8
    torch.testing.assert_close(entropy.double(), wanted[1], atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(direction.double(), wanted[2], atol=1e-14, rtol=1e-3)
    torch.testing.assert_close(chosen.double(), wanted[0], atol=1e-14, rtol=1e-3)


def test_not_a_number_is_not_hidden() -> None:
    states, targets, weight = case(1500)
    states[2, 3] = torch.nan
    found = vocabulary.head_statistics(states, targets, weight, None, 1.0, direction=True)
    assert [bool(one[2].isnan().all()) for one in found if one is not None] == [True] * 3
    assert not any(one[[0, 1, 3]].isnan().any() for one in found if one is not None)


def test_the_number_of_threads_changes_no_share() -> None:
    """Of the part that is ours; products are MKL's."""
    logits, before, seen = torch.randn(9, 700), torch.get_num_threads(), []
    for threads in (1, 2, 3):
        found, sums = logits.clone(), torch.zeros(5, 9)
        sums[0] = -1e30
        targets = torch.arange(9)
        known = vocabulary.Folded(*(one.data_ptr() for one in (*sums[:4], targets)), 9)
        vocabulary._library().rairl_fold(known, found.data_ptr(), 700, 0, 1.0, sums[4].data_ptr(), threads)
        seen.append(torch.cat([found.flatten(), sums.flatten()]))
    assert (
        torch.equal(seen[0], seen[1])
        and torch.equal(seen[0], seen[2])
        and not torch.equal(seen[0][:6300], logits.flatten())
    )
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("compiled", [True, False])
def test_the_head_gives_the_same_with_and_without(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    states, targets, weight = case(3000)
    wanted = expected(states, targets, weight, None, 0.8)
    if not compiled:
        monkeypatch.setattr(vocabulary, "available", lambda: False)
        monkeypatch.setattr(vocabulary, "head_statistics", None)
    assert frozen_head.folds(states, weight) == compiled
    leaf = states.clone().requires_grad_(True)
    chosen, entropy = FrozenHead.apply(leaf, targets, weight, None, 0.8)
    (gradient,) = torch.autograd.grad(chosen.sum(), leaf)
    compare((chosen.detach(), entropy, gradient), wanted)
    assert not frozen_head.folds(states.double(), weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not frozen_head.folds(states, weight)


def test_targets_of_any_type_and_none_outside() -> None:
    states, targets, weight = case(50)
    wanted = vocabulary.head_statistics(states, targets, weight, None, 1.0, direction=True)
    found = vocabulary.head_statistics(states, targets.int(), weight, None, 1.0, direction=True)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True) if one is not None)
    for outside in (-1, 50):
        targets[3] = outside
        with pytest.raises(IndexError, match=f"the vocabulary of 50; got .*{outside}"):
            vocabulary.head_statistics(states, targets, weight, None, 1.0, direction=False)
    nothing = vocabulary.head_statistics(states[:0], targets[:0], weight, None, 1.0, direction=True)
    assert [len(one) for one in nothing if one is not None] == [0, 0, 0]


def test_the_default_type_changes_nothing() -> None:
    states, targets, weight = case(2000)
    wanted = vocabulary.head_statistics(states, targets, weight, None, 1.0, direction=True)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = vocabulary.head_statistics(states, targets, weight, None, 1.0, direction=True)
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True) if one is not None)
