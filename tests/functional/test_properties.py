"""What holds for every tensor path: padding, the order of rows and the split of a batch change nothing, and T = 4096
in float32 is the float64 result."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from rairl_lightning import functional as f

GROUP = 2


@dataclass(frozen=True)
class Case:
    """One round of whole groups: everything ``[N, T]``, and labels ``[N]``."""

    mask: Tensor
    ends: Tensor
    first: Tensor
    second: Tensor
    third: Tensor
    labels: Tensor

    @property
    def grid(self) -> Tensor:
        return f.reward_grid(self.mask, every=3)

    @property
    def positions(self) -> Tensor:
        return self.grid.sum(1)

    def on(self, rows: Tensor) -> "Case":
        return Case(*(getattr(self, field.name)[rows] for field in fields(self)))

    def wider(self, left: int, right: int) -> "Case":
        """With more columns, whose values are large and wrong."""
        padded = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value.dim() == 2:
                fill = 77.0 if value.is_floating_point() else False
                padded[field.name] = torch.nn.functional.pad(value, (left, right), value=fill)
        return replace(self, **padded)

    def single(self) -> "Case":
        """In float32."""
        values = {name: getattr(self, name).float() for name in ("first", "second", "third")}
        return replace(self, **values)


def read(values: Tensor, where: Tensor) -> Tensor:
    """What is not meant is 0."""
    return torch.where(where, values, torch.zeros_like(values))


def surrogate(function: Callable[..., f.Surrogate], *, masked: bool = False) -> Callable[[Case], Tensor]:
    def loss(c: Case) -> Tensor:
        return read(function(c.first, c.second, c.third, *[c.mask] * masked).loss, c.mask)

    return loss


BY_TOKEN = {  # [N, T], a row at a time
    "reward_grid": lambda c: f.reward_grid(c.mask, every=4, ends=c.ends),
    "segment_ids": lambda c: read(f.segment_ids(c.grid, c.mask), c.mask),
    "backfill": lambda c: f.backfill(c.first, c.grid, c.mask),
    "segment_sum": lambda c: f.segment_sum(c.first, c.grid, c.mask),
    "segment_mean": lambda c: f.segment_mean(c.first, c.grid, c.mask),
    "segment_change": lambda c: f.segment_change(c.first, c.grid, c.mask),
    "segment_shaping": lambda c: f.segment_shaping(c.first, c.grid, c.mask, 0.9),
    "discounted_to_go": lambda c: f.discounted_to_go(c.first, c.mask, 0.9),
    "truncated_importance": lambda c: f.truncated_importance(c.first, c.second, c.mask),
    "clipped_surrogate": surrogate(f.clipped_surrogate),
    "sequence_surrogate": surrogate(f.sequence_surrogate, masked=True),
    "truncated_surrogate": surrogate(f.truncated_surrogate),
    "kl_k1": lambda c: read(f.kl_k1(c.first, c.second), c.mask),
    "kl_k2": lambda c: read(f.kl_k2(c.first, c.second), c.mask),
    "kl_k3": lambda c: read(f.kl_k3(c.first, c.second), c.mask),
    "smoothed_bce": lambda c: read(f.smoothed_bce(c.first, c.labels, 0.1), c.grid),
    "wasserstein_losses": lambda c: read(f.wasserstein_losses(c.first, c.labels), c.grid),
    "hinge_losses": lambda c: read(f.hinge_losses(c.first, c.labels), c.grid),
    "bernoulli_entropy": lambda c: read(f.bernoulli_entropy(c.first), c.grid),
    "logit_to_reward": lambda c: read(f.logit_to_reward(c.first), c.grid),
    "interval_target": lambda c: f.interval_target(c.ends & c.mask, c.mask, 4),
    "step_target": lambda c: f.step_target(c.first > 1, c.mask, c.ends),
}
BY_GROUP = {  # [N, T], a group at a time
    "group_normalised_advantages": lambda c: f.group_normalised_advantages(c.first, c.mask, GROUP),
    "group_centred": lambda c: f.group_centred(c.first, c.mask, GROUP),
}
BY_ROUND = {  # [N, T], with a total over the round
    "trace_mean_weights": lambda c: f.trace_mean_weights(c.mask),
    "token_mean_weights": lambda c: f.token_mean_weights(c.mask),
    "constant_length_weights": lambda c: f.constant_length_weights(c.mask, 30),
}
PER_TRACE = {  # [N], a row or a group at a time
    "masked_sum": lambda c: f.masked_sum(c.first, c.mask, 1),
    "masked_mean": lambda c: f.masked_mean(c.first, c.mask, 1),
    "trajectory_mean": lambda c: f.trajectory_mean(c.first, c.mask),
    "last_value": lambda c: f.last_value(c.first, c.grid),
    "lowest_value": lambda c: f.lowest_value(c.first, c.grid),
    "log_product": lambda c: f.log_product(c.first, c.grid),
    "chance": lambda c: f.chance(c.ends, c.mask),
    "group_spread": lambda c: f.group_spread(c.first, c.mask, GROUP),
    "leave_one_out": lambda c: f.leave_one_out(f.trajectory_mean(c.first, c.mask), GROUP),
}
OF_ROUND = {  # [N], with a total over the round
    "per_trace_weights": lambda c: f.per_trace_weights(c.labels, c.positions),
    "per_position_weights": lambda c: f.per_position_weights(c.labels, c.positions),
    "class_shares": lambda c: f.class_shares(c.labels, 0.3),
}
TOTALS = {  # scalars
    "discriminator": lambda c: f.weighted_grid_sum(
        f.smoothed_bce(c.first, c.labels, 0.1), c.grid, f.per_trace_weights(c.labels, c.positions)
    ),
    "policy": lambda c: f.surrogate_objective(
        f.clipped_surrogate(c.first, c.second, c.third), c.first, c.third, f.trace_mean_weights(c.mask), kl_coef=0.1
    )[0],
    "gap": lambda c: torch.stack(list(f.gap_statistics(c.first, c.second, c.mask).values())),
    "statistics": lambda c: torch.stack(
        list(
            f.discriminator_statistics(
                c.first, c.labels, c.grid, f.per_position_weights(c.labels, c.positions)
            ).values()
        )
    ),
}
TOKENS = {**BY_TOKEN, **BY_GROUP, **BY_ROUND}
TRACES = {**PER_TRACE, **OF_ROUND}
EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(params=["left", "right"])
def case(request, generator, ragged):
    mask = ragged(rows=8, side=request.param)

    def draw():
        return torch.randn(mask.shape, dtype=torch.float64, generator=generator)

    ends = torch.rand(mask.shape, generator=generator) < 0.3
    return Case(mask, ends, draw(), draw(), draw(), torch.rand(8, generator=generator) < 0.5)


@pytest.mark.parametrize("name", [*TOKENS, *TRACES, *TOTALS])
def test_padding_changes_nothing(name, case):
    function = {**TOKENS, **TRACES, **TOTALS}[name]
    whole = function(case)
    for left, right in ((3, 0), (0, 4), (2, 5)):
        wider = function(case.wider(left, right))
        if name in TOKENS:
            assert not wider[:, :left].any() and not wider[:, left + whole.shape[1] :].any()
            wider = wider[:, left : left + whole.shape[1]]
        torch.testing.assert_close(wider, whole, **EXACT)


@pytest.mark.parametrize("name", [*TOKENS, *TRACES, *TOTALS])
def test_the_order_of_rows_changes_nothing(name, case, generator):
    function = {**TOKENS, **TRACES, **TOTALS}[name]
    order = torch.cat([GROUP * g + torch.randperm(GROUP, generator=generator) for g in (2, 0, 3, 1)])
    whole = function(case)
    expected = whole if name in TOTALS else whole[order]
    torch.testing.assert_close(function(case.on(order)), expected, **EXACT)
    if name in BY_GROUP:
        across = torch.arange(8).roll(1)
        with pytest.raises(AssertionError):  # control: other groups
            torch.testing.assert_close(function(case.on(across)), whole[across], **EXACT)


@pytest.mark.parametrize("name", [*BY_TOKEN, *BY_GROUP, *PER_TRACE])
def test_the_rest_of_the_batch_changes_nothing(name, case):
    """Each group alone, cut to its own columns."""
    function = {**TOKENS, **PER_TRACE}[name]
    whole = function(case)
    for start in range(0, 8, GROUP):
        rows = torch.arange(start, start + GROUP)
        part = case.on(rows)
        used = part.mask.any(0)
        used = used | used.roll(-1)  # the prompt's last token too
        cut = replace(
            part, **{field.name: getattr(part, field.name)[:, used] for field in fields(part) if field.name != "labels"}
        )
        expected = whole[rows][:, used] if name in TOKENS else whole[rows]
        torch.testing.assert_close(function(cut), expected, **EXACT)


@pytest.mark.parametrize("name", [*BY_ROUND, *OF_ROUND])
def test_a_round_s_weights_are_of_the_round(name, case):
    """The control of the property before: these change with the batch, and are therefore computed once."""
    function = {**BY_ROUND, **OF_ROUND}[name]
    rows = torch.tensor([0, 1, 2])
    alone = function(case.on(rows))
    assert torch.equal(alone, function(case)[rows]) is (name == "class_shares")


@pytest.mark.parametrize("name", [*TOKENS, *TRACES, *TOTALS])
def test_long_traces_are_finite_and_right(name):
    """T = 4096 in float32 against float64, values and gradient; the tolerance rejects a thousandth."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(4, 4096, dtype=torch.bool)
    mask[:, 0], mask[1, 3000:] = False, False
    draws = [3 * torch.randn(4, 4096, dtype=torch.float64, generator=generator) for _ in range(3)]
    ends = torch.rand(4, 4096, generator=generator) < 0.05
    long = Case(mask, ends, *draws, torch.tensor([True, False, False, True]))
    results = []
    for case in (long, long.single()):
        leaf = case.first.clone().requires_grad_()
        out = {**TOKENS, **TRACES, **TOTALS}[name](replace(case, first=leaf))
        upstream = torch.arange(out.numel()).view_as(out).to(leaf).cos()
        gradient = torch.autograd.grad((out * upstream).sum(), leaf)[0] if out.requires_grad else torch.zeros_like(leaf)
        assert out.isfinite().all() and gradient.isfinite().all()
        results.append((out.detach().double(), gradient.double()))
    (out, gradient), (out_single, gradient_single) = results
    size = out.abs().max()
    torch.testing.assert_close(out_single, out, rtol=1e-4, atol=1e-5 * float(size))
    torch.testing.assert_close(gradient_single, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(1.001 * out, out, rtol=1e-4, atol=1e-5 * float(size))


ROUNDED_MORE = {"discounted_to_go", "kl_k3", "policy", "gap"}  # at every token, or in an exponent; the others once


@pytest.mark.parametrize("name", [*TOKENS, *TRACES, *TOTALS])
def test_long_traces_in_bfloat16_are_finite_and_near(name):
    """Logits and log-probabilities of a model in bfloat16, as they come: no sum of 4096 may stall or overflow."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(4, 4096, dtype=torch.bool)
    mask[:, 0], mask[1, 3000:] = False, False
    draws = [(3 * torch.randn(4, 4096, generator=generator)).bfloat16() for _ in range(3)]
    ends = torch.rand(4, 4096, generator=generator) < 0.05
    coarse = Case(mask, ends, *draws, torch.tensor([True, False, False, True]))
    fine = replace(coarse, **{name: getattr(coarse, name).double() for name in ("first", "second", "third")})
    function = {**TOKENS, **TRACES, **TOTALS}[name]
    leaf = coarse.first.clone().requires_grad_()
    out, exact = function(replace(coarse, first=leaf)), function(fine).double()
    if out.requires_grad:
        assert torch.autograd.grad(out.float().sum(), leaf)[0].isfinite().all()
    scale = float(exact.abs().max())
    close = {"rtol": 0.02, "atol": (0.1 if name in ROUNDED_MORE else 0.02) * scale}
    torch.testing.assert_close(out.detach().double(), exact, **close)
    with pytest.raises(AssertionError):  # control
        torch.testing.assert_close(1.2 * out.detach().double() + 0.2 * scale, exact, **close)


def test_the_largest_drop_moves_with_the_padding(case):
    """A column, so it shifts; pointing nowhere stays."""
    found = f.largest_drop(case.first, case.grid, case.mask)
    wider = case.wider(3, 2)
    moved = f.largest_drop(wider.first, wider.grid, wider.mask)
    assert torch.equal(moved, torch.where(found < 0, found, found + 3)) and (found >= 0).any()
