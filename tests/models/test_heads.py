import numpy as np
import pytest
import torch
from reference import reference_heads as reference

from rairl_lightning.components import TwoHead
from rairl_lightning.errors import ConfigError
from rairl_lightning.functional.logprobs import gathered_logprobs
from rairl_lightning.models.heads import ExpectationHead, HeadInputs, LinearHead, TwoHeads
from rairl_lightning.types import TokenBatch, TraceIds


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


# Against the equations ---------------------------------------------------------------------------------------------

H, V = 6, 11
FEATURES = ("hidden", "product", "logprob", "running_min")
LENGTHS = [(2, 5), (4, 1), (3, 7), (1, 4)]  # of prompt and completion


def world(dtype=torch.float64):
    """Traces, the hidden states of their tokens, embedding and vocabulary: nothing knows of padding."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)

    ids = [torch.randint(1, V, (p + c,), generator=generator).tolist() for p, c in LENGTHS]
    traces = [TraceIds(row[:p], row[p:], [False] * c, [(0, 0)] * c) for row, (p, c) in zip(ids, LENGTHS, strict=True)]
    return traces, [draw(len(row), H) for row in ids], draw(V, H), 3 * draw(V, H)


def padded(dtype=torch.float64, side="right"):
    """The same as a head gets it; states of padding are large and wrong."""
    traces, hidden, embedding, vocabulary = world(dtype)
    tokens = TokenBatch.from_traces(traces, 0, side=side)
    states = torch.full((*tokens.input_ids.shape, H), 77.0, dtype=dtype)
    for n, rows in enumerate(hidden):
        states[n, tokens.attention_mask[n]] = rows
    # The product of a head in float64: the embedding is float32 whatever the model is.
    return HeadInputs(states, tokens, lambda index: embedding.float()[index], lambda x: x @ vocabulary.T)


def weights_of(head):
    return {name: parameter.detach().numpy() for name, parameter in head.named_parameters()}


def drawn(head, dtype=torch.float64):
    """Weights that say something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return head.to(dtype)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_linear_head_agrees_with_its_equation(side):
    inputs, head = padded(side=side), drawn(LinearHead().build(H))
    logits, weights = head(inputs), weights_of(head)
    for n, states in enumerate(world()[1]):
        found = logits[n, inputs.tokens.attention_mask[n]].detach().numpy()
        np.testing.assert_allclose(found, reference.linear(states.numpy(), weights))
        with pytest.raises(AssertionError):  # control: without its bias
            np.testing.assert_allclose(found, reference.linear(states.numpy(), {**weights, "scalar.bias": [0.0]}))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("features", [FEATURES, FEATURES[:1], FEATURES[1:2], FEATURES[2:3], FEATURES[3:]])
def test_the_expectation_head_agrees_with_its_equation(side, features):
    spec = ExpectationHead(4, **{f"use_{name}": name in features for name in FEATURES})
    inputs, head = padded(side=side), drawn(spec.build(H))
    logits, weights = head(inputs), weights_of(head)
    traces, hidden, embedding, vocabulary = world()
    differ = []
    for n, trace in enumerate(traces):
        ids, start = [*trace.prompt_ids, *trace.completion_ids], len(trace.prompt_ids)
        arguments = (hidden[n].numpy(), ids, embedding.numpy(), vocabulary.numpy())
        found = logits[n, inputs.tokens.completion_mask[n]].detach().numpy()
        expected = reference.expectation(*arguments, start, weights, features)[start:]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # the embedding is read in float32
        shifted = reference.expectation(arguments[0], ids[1:] + ids[:1], *arguments[2:], start, weights, features)
        differ.append(not np.allclose(found, shifted[start:], rtol=1e-5, atol=1e-5))
    assert any(differ) is (features != FEATURES[:1])  # control: one token off, which only the states do not tell


@pytest.mark.parametrize("side", ["left", "right"])
def test_two_heads_agree_with_their_equations(side):
    """Read where the critic reads them: g on the completion, h there and at the prompt's last token."""
    inputs, head = padded(side=side), drawn(TwoHeads(LinearHead(), ExpectationHead(4)).build(H))
    outputs = head(inputs).detach().numpy()
    weights = [weights_of(part) for part in (head.reward, head.potential)]
    traces, hidden, embedding, vocabulary = world()
    for n, trace in enumerate(traces):
        ids, start = [*trace.prompt_ids, *trace.completion_ids], len(trace.prompt_ids)
        found = outputs[n, inputs.tokens.attention_mask[n].numpy()][start - 1 :]
        states = hidden[n].numpy()
        h = reference.expectation(states, ids, embedding.numpy(), vocabulary.numpy(), start, weights[1], FEATURES)
        expected = np.stack([reference.linear(states, weights[0]), h], axis=-1)[start - 1 :]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        with pytest.raises(AssertionError):  # control: h, then g
            np.testing.assert_allclose(found, expected[:, ::-1], rtol=1e-5, atol=1e-5)


def test_the_first_token_reads_no_padding():
    """A prompt of one token is the state s_0 of a two-head critic: its potential is read, and paid."""
    head = drawn(TwoHeads(LinearHead(), ExpectationHead(4)).build(H))
    shapings = []
    for side in ("left", "right"):
        inputs = padded(side=side)
        mask = inputs.tokens.completion_mask
        terms = TwoHead().terms(head(inputs), torch.zeros(mask.shape).double(), mask, mask)
        shapings.append(terms.shaping[3, mask[3]])
    torch.testing.assert_close(*shapings)


@pytest.mark.parametrize("spec", [LinearHead(), ExpectationHead(4), TwoHeads(ExpectationHead(4), LinearHead())])
def test_gradchecks(spec):
    inputs = padded()
    rows = torch.tensor([0])
    tokens, keep = inputs.tokens.select(rows), inputs.tokens.attention_mask[rows].any(0)
    leaf, head = inputs.hidden_NTH[rows][:, keep].clone().requires_grad_(), drawn(spec.build(H))

    def logits(states):
        return head(HeadInputs(states, tokens, inputs.embedding, inputs.lm_head))

    assert torch.autograd.gradcheck(logits, (leaf,))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("spec", [LinearHead(), ExpectationHead(4), TwoHeads(ExpectationHead(4), LinearHead())])
def test_logits_do_not_depend_on_the_batch(spec, side):
    """At every token, that of a prompt of one included: padded on the left, on the right, and not at all."""
    inputs, head = padded(torch.float32, side), drawn(spec.build(H), torch.float32)
    whole = head(inputs)
    for n in range(4):
        rows = torch.tensor([n])
        tokens, keep = inputs.tokens.select(rows), inputs.tokens.attention_mask[n]
        alone = head(HeadInputs(inputs.hidden_NTH[rows][:, keep], tokens, inputs.embedding, inputs.lm_head))
        torch.testing.assert_close(alone[0], whole[n, keep], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1e3, 1e-12])
def test_long_traces_stay_finite(size):
    """States of any size, in float32 as a backbone in bfloat16 hands them over."""
    ids = torch.ones(1, 4096, dtype=torch.int64)
    mask = torch.ones(1, 4096, dtype=torch.bool)
    mask[:, :2] = False
    tokens = TokenBatch(ids, torch.ones_like(mask), mask, mask, torch.zeros(1, 4096, 2, dtype=torch.int32))
    states = (size * torch.randn(1, 4096, H)).bfloat16().float().requires_grad_()
    table = torch.randn(V, H).bfloat16()
    head = drawn(TwoHeads(ExpectationHead(4), LinearHead()).build(H), torch.float32)
    outputs = head(HeadInputs(states, tokens, lambda index: table[index], lambda x: x.bfloat16() @ table.T))
    (gradient,) = torch.autograd.grad(outputs.sum(), states)
    assert outputs.dtype == torch.float32 and outputs.isfinite().all() and gradient.isfinite().all()
