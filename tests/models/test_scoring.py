"""Log-probabilities and logits must not depend on how traces are batched."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from rairl_lightning.models import BackboneSpec, ExpectationHead, FullFineTuning
from rairl_lightning.types import TokenBatch

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def pair(tiny, helpers):
    return helpers.build(helpers.shared(tiny))


@pytest.fixture
def tokens(codec, helpers):
    return helpers.traces(codec)


def score(pair, what, tokens, max_tokens):
    return (
        pair.discriminator.score(tokens, max_tokens) if what == "logits" else pair.policy.score(tokens, max_tokens)[0]
    )


@pytest.mark.parametrize("what", ["logits", "logprobs"])
@pytest.mark.parametrize("max_tokens", [1, 90, 10_000])
@pytest.mark.parametrize("side", ["left", "right"])
def test_scores_do_not_depend_on_batch_padding_or_split(pair, codec, helpers, what, max_tokens, side):
    whole = helpers.traces(codec, side)
    together = score(pair, what, whole, max_tokens)
    for row in range(len(whole)):
        alone = whole.select([row])
        expected = score(pair, what, alone, 10_000)[0]
        torch.testing.assert_close(together[row, whole.attention_mask[row]], expected, **TOLERANCE)
    assert not together[~whole.attention_mask].any()


def test_a_model_that_reads_the_padding_would_fail(pair, codec, helpers):
    whole = helpers.traces(codec, "left")
    careless = TokenBatch(whole.input_ids, torch.ones_like(whole.attention_mask), *_rest(whole))
    rows = whole.attention_mask[3]
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            pair.discriminator(careless)[3, rows], pair.discriminator(whole)[3, rows], **TOLERANCE
        )


def _rest(tokens):
    return tokens.completion_mask, tokens.step_ends, tokens.char_offsets


def test_logprobs_are_those_of_the_full_logits(tiny, tokens):
    pair = FullFineTuning(BackboneSpec(str(tiny))).build()
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    logits = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask.long()).logits / 0.7
    wanted = logits[:, :-1].log_softmax(-1).gather(-1, tokens.input_ids[:, 1:, None]).squeeze(-1)
    wanted = torch.nn.functional.pad(wanted, (1, 0)) * tokens.completion_mask
    torch.testing.assert_close(pair.policy.logprobs(tokens, temperature=0.7).logprobs, wanted, **TOLERANCE)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(pair.policy.logprobs(tokens, temperature=0.8).logprobs, wanted, **TOLERANCE)


def test_scoring_leaves_the_mode_and_keeps_no_graph(pair, tokens):
    pair.train()
    pair.policy.causal_lm.lm_head.eval()
    assert not pair.policy.score(tokens, 100).logprobs.requires_grad
    assert not pair.discriminator.score(tokens, 100).requires_grad
    assert pair.training and not pair.policy.causal_lm.lm_head.training
    pair.eval()


def test_no_traces_give_no_scores(pair, codec):
    empty = TokenBatch.from_traces([], codec.pad_id)
    assert pair.discriminator.score(empty, 100).shape == pair.policy.score(empty, 100).logprobs.shape == (0, 0)


def test_reference_has_no_graph(pair, tokens):
    assert not pair.reference.logprobs(tokens).logprobs.requires_grad


@pytest.mark.parametrize("layout", ["shared", "full"])
def test_activation_checkpointing_changes_no_gradient(tiny, tokens, helpers, layout):
    gradients = []
    for checkpointing in (False, True):
        if layout == "shared":
            spec = helpers.shared(tiny, activation_checkpointing=checkpointing)
        else:
            head = ExpectationHead(4)
            spec = FullFineTuning(BackboneSpec(str(tiny)), head, activation_checkpointing=checkpointing)
        torch.manual_seed(0)
        pair = helpers.build(spec).train()
        # Interleaved: both forward passes before either backward pass.
        losses = [pair.policy.logprobs(tokens).logprobs.sum(), pair.discriminator(tokens).sum()]
        for loss in losses:
            loss.backward()
        players = ("policy", "discriminator")
        gradients.append([p.grad for player in players for p in pair.trainable_parameters(player)])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, **TOLERANCE)


def test_the_head_stays_in_float32_under_autocast(pair, tokens):
    with torch.autocast("cpu", torch.bfloat16):
        assert pair.discriminator(tokens).dtype == torch.float32
