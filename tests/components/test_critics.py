import numpy as np
import pytest
import reference_critic as reference
import torch
from torch import nn

from rairl_lightning.components import (
    MeanLogprob,
    NoLogprob,
    ReadF,
    ReadG,
    ReadMixed,
    SingleHead,
    SummedLogprob,
    TwoHead,
)
from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.functional import reward_grid

TERMS = [NoLogprob(), MeanLogprob(), MeanLogprob(floor=-0.5), SummedLogprob(), SummedLogprob(floor=-0.5)]


@pytest.fixture(params=[None, 1, 3])
def grid(request, mask):
    return reward_grid(mask, every=request.param)


@pytest.fixture
def outputs(draw, mask):
    return draw(*mask.shape, 2)


@pytest.fixture
def logprobs(draw, mask):
    return -draw(*mask.shape).abs() * mask


def on(grid, values):
    return torch.where(grid, values, 0.0)


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize(("mean", "floor"), [(True, None), (True, -0.5), (False, None), (False, -0.5)])
def test_logits_agree_with_the_equation(outputs, logprobs, grid, mask, mean, floor, clip):
    critic = TwoHead(gamma=0.9, logprob=(MeanLogprob if mean else SummedLogprob)(floor), shaping_clip=clip)
    ours = on(grid, critic.logits(outputs, logprobs, grid, mask))
    arrays = [x.numpy() for x in (outputs[..., 0], outputs[..., 1], logprobs, grid, mask)]
    torch.testing.assert_close(ours, torch.from_numpy(reference.two_head_logits(*arrays, 0.9, clip, floor, mean)))
    controls = [
        (0.8, clip, floor, mean),
        (0.9, clip, floor, not mean),
        (0.9, 0.2, floor, mean),
        (0.9, clip, -0.1, mean),
    ]
    for number, control in enumerate(controls):
        if (number == 1 and grid.equal(mask)) or (number == 0 and grid.equal(reward_grid(mask))):
            continue  # dense: means are sums; sparse: the next potential is the terminal 0
        wrong = torch.from_numpy(reference.two_head_logits(*arrays, *control))
        with pytest.raises(AssertionError):
            torch.testing.assert_close(ours, wrong)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("read_out", [ReadG(), ReadF(), ReadMixed(0.3)])
def test_without_potential_two_heads_are_one(outputs, logprobs, grid, mask, term, read_out):
    flat = torch.stack([outputs[..., 0], torch.zeros_like(outputs[..., 0])], dim=-1)
    two, one = TwoHead(logprob=term, read_out=read_out), SingleHead(logprob=term)
    assert two.needs_logprobs == one.needs_logprobs
    logits = [critic.logits(x, logprobs, grid, mask) for critic, x in ((two, flat), (one, outputs[..., 0]))]
    torch.testing.assert_close(*(on(grid, x) for x in logits), rtol=0, atol=0)
    assert torch.equal(on(grid, two.pay(flat, grid, mask)), on(grid, one.pay(outputs[..., 0], grid, mask)))
    with pytest.raises(AssertionError):  # control: with a potential they are not
        torch.testing.assert_close(on(grid, two.logits(outputs, logprobs, grid, mask)), on(grid, logits[0]))


def test_the_papers_discriminator_is_the_head_alone(outputs, grid, mask):
    critic = SingleHead()
    assert not critic.needs_logprobs
    assert torch.equal(critic.logits(outputs[..., 0], None, grid, mask), outputs[..., 0])
    assert torch.equal(critic.pay(outputs[..., 0], grid, mask), outputs[..., 0])


def test_read_outs(outputs, grid, mask):
    pays = {
        name: on(grid, TwoHead(read_out=read_out).pay(outputs, grid, mask))
        for name, read_out in {"g": ReadG(), "f": ReadF(), "0": ReadMixed(0.0), "1": ReadMixed(1.0)}.items()
    }
    assert torch.equal(pays["g"], on(grid, outputs[..., 0]))
    assert torch.equal(pays["0"], pays["g"]) and torch.equal(pays["1"], pays["f"])
    half = on(grid, TwoHead(read_out=ReadMixed(0.5)).pay(outputs, grid, mask))
    torch.testing.assert_close(half, (pays["f"] + pays["g"]) / 2)
    logits = on(grid, TwoHead(logprob=NoLogprob()).logits(outputs, None, grid, mask))
    torch.testing.assert_close(logits, pays["f"])


def test_the_policy_is_not_paid_for_where_a_trace_ends(outputs, mask):
    """What f pays in all beyond g is -h(prompt), whatever the completion."""
    grid = reward_grid(mask, every=2)
    f, g = (on(grid, TwoHead(read_out=r).pay(outputs, grid, mask)) for r in (ReadF(), ReadG()))
    prompt_end = mask.long().argmax(1) - 1
    torch.testing.assert_close((f - g).sum(1), -outputs[torch.arange(8), prompt_end, 1])


def test_the_log_probability_is_detached_and_the_heads_are_not(outputs, logprobs, grid, mask):
    leaves = outputs.clone().requires_grad_(), logprobs.clone().requires_grad_()
    on(grid, TwoHead(gamma=0.5).logits(*leaves, grid, mask)).pow(2).sum().backward()
    assert leaves[0].grad[..., 0][grid].abs().min() > 0 and leaves[0].grad[..., 1].any()
    assert leaves[1].grad is None
    small = [x[:2] for x in (outputs, logprobs, grid, mask)]
    assert torch.autograd.gradcheck(
        lambda x: on(small[2], TwoHead(gamma=0.5).logits(x, *small[1:])), (small[0].clone().requires_grad_(),)
    )


def test_a_mean_keeps_the_logit_on_one_scale():
    """The reference's fault 10: a sum over 4096 tokens saturates the sigmoid at once."""
    mask = torch.ones(1, 4097, dtype=torch.bool)
    mask[0, 0] = False
    grid, logprobs = reward_grid(mask), torch.full((1, 4097), -2.0)
    sizes = [
        TwoHead(logprob=term).logits(torch.zeros(1, 4097, 2), logprobs, grid, mask)[0, -1].item()
        for term in (MeanLogprob(), SummedLogprob(), MeanLogprob(floor=-1.0))
    ]
    assert sizes == pytest.approx([2.0, 8192.0, 1.0])


def test_terms_add_up(outputs, logprobs, grid, mask):
    critic = TwoHead()
    g, shaping, logprob = critic.terms(outputs, logprobs, grid, mask)
    assert torch.equal(g + shaping - logprob, critic.logits(outputs, logprobs, grid, mask))
    assert np.isfinite(logprob.numpy()).all()


def test_heads_and_log_probabilities_must_fit(outputs, logprobs, grid, mask):
    with pytest.raises(ConfigError, match="do not fit"):
        TwoHead().pay(outputs[..., 0], grid, mask)
    with pytest.raises(ConfigError, match="do not fit"):
        SingleHead().pay(outputs, grid, mask)
    with pytest.raises(ConfigError, match="were not computed"):
        TwoHead().logits(outputs, None, grid, mask)


def test_the_head_can_have_a_learning_rate_of_its_own():
    weights = {name: nn.Parameter(torch.zeros(1)) for name in ("model.body", "head.scalar", "head.potential.scalar")}
    named = {name: weights[name] for name in ("model.body", "head.scalar")}
    body, head = SingleHead(head_lr_factor=20.0).parameter_groups(named)
    assert (body.parameters, body.lr_factor) == ([weights["model.body"]], 1.0)
    assert (head.parameters, head.lr_factor) == ([weights["head.scalar"]], 20.0)
    body, head, potential = TwoHead(head_lr_factor=20.0, potential_lr_factor=0.5).parameter_groups(weights)
    assert (body.parameters, head.parameters) == ([weights["model.body"]], [weights["head.scalar"]])
    assert (potential.parameters, potential.lr_factor) == ([weights["head.potential.scalar"]], 10.0)


@pytest.mark.parametrize("critic", [SingleHead, TwoHead])
def test_a_head_that_stands_still_is_refused(critic):
    with pytest.raises(ConfigError, match="head_lr_factor"):
        critic(head_lr_factor=0.0)


def test_parameter_groups():
    named = {name: nn.Parameter(torch.zeros(1)) for name in ("lora_A", "head.reward.scalar", "head.potential.scalar")}
    (everything,) = SingleHead().parameter_groups(named)
    assert everything.parameters == list(named.values()) and everything.lr_factor == 1
    rest, potential = TwoHead(potential_lr_factor=0.25, potential_weight_decay=0.5).parameter_groups(named)
    assert [id(p) for p in rest.parameters] == [id(named["lora_A"]), id(named["head.reward.scalar"])]
    assert [id(p) for p in potential.parameters] == [id(named["head.potential.scalar"])]
    assert (rest.lr_factor, rest.options) == (1.0, {})
    assert (potential.lr_factor, potential.options) == (0.25, {"weight_decay": 0.5})
    torch.optim.AdamW([{"params": g.parameters, **g.options} for g in (rest, potential)], weight_decay=0.1)
    with pytest.raises(ModelError, match="no potential"):
        TwoHead().parameter_groups({"head.potentially": nn.Parameter(torch.zeros(1))})


@pytest.mark.parametrize(
    ("component", "fields"),
    [
        (MeanLogprob, {"floor": 0.0}),
        (SummedLogprob, {"floor": 1.0}),
        (ReadMixed, {"shaping_weight": 1.5}),
        (TwoHead, {"gamma": -0.1}),
        (TwoHead, {"shaping_clip": 0.0}),
        (TwoHead, {"potential_lr_factor": -1.0}),
        (TwoHead, {"potential_weight_decay": -1.0}),
    ],
)
def test_ranges(component, fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        component(**fields)
