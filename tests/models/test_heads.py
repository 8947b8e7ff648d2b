import pytest
import torch

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional.logprobs import gathered_logprobs
from rairl_lightning.models.heads import ExpectationHead, HeadInputs, LinearHead


@pytest.fixture
def inputs(codec, helpers):
    tokens = helpers.traces(codec)
    hidden = torch.randn(*tokens.input_ids.shape, 16)
    embedding = torch.nn.Embedding(len(codec.tokenizer), 16)
    return HeadInputs(hidden, tokens, embedding, lambda states: states @ embedding.weight.T)


def randomised(head):
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


@pytest.mark.parametrize("spec", [LinearHead(), ExpectationHead()])
def test_heads_start_silent(spec, inputs):
    logits = spec.build(16)(inputs)
    assert logits.shape == inputs.tokens.input_ids.shape and not logits.any()


@pytest.mark.parametrize(
    ("off", "width"),
    [
        ({}, 34),
        ({"use_hidden": False}, 18),
        ({"use_product": False}, 18),
        ({"use_logprob": False}, 33),
        ({"use_running_min": False}, 33),
    ],
)
def test_every_feature_can_be_left_out(off, width, inputs):
    head = ExpectationHead(mlp_size=5, **off).build(16)
    assert head.mlp[0].weight.shape == (5, width)
    assert head(inputs).shape == inputs.tokens.input_ids.shape


def test_lm_head_is_asked_for_only_by_log_probabilities():
    assert ExpectationHead().needs_lm_head and not LinearHead().needs_lm_head
    assert not ExpectationHead(use_logprob=False, use_running_min=False).needs_lm_head


def test_no_feature_is_refused():
    with pytest.raises(ConfigError, match="no feature"):
        ExpectationHead(use_hidden=False, use_product=False, use_logprob=False, use_running_min=False)


def test_running_minimum_is_of_the_completion_so_far(inputs):
    head = randomised(ExpectationHead(4, use_hidden=False, use_product=False).build(16))
    logprob, lowest = head._features(inputs)
    mask = inputs.tokens.completion_mask
    raw = gathered_logprobs(inputs.hidden_NTH, inputs.tokens.input_ids, mask, inputs.lm_head).logprobs.clamp(min=-20)
    for row in range(len(mask)):
        values = raw[row, mask[row]]
        expected = torch.stack([values[: i + 1].min() for i in range(len(values))])
        torch.testing.assert_close(lowest[row, mask[row], 0] * 4, expected)
        torch.testing.assert_close(logprob[row, mask[row], 0] * 4, values)


def test_the_past_decides_and_the_future_does_not(inputs):
    head = randomised(ExpectationHead().build(16))
    changed = inputs.hidden_NTH.clone()
    changed[:, 30:] += 1
    before, after = head(inputs), head(HeadInputs(changed, inputs.tokens, inputs.embedding, inputs.lm_head))
    assert torch.equal(before[:, :30], after[:, :30])
    assert not torch.allclose(before[:, 31:], after[:, 31:])
