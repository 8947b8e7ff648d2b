"""The discriminator as a function of its input embeddings, which gradient penalties need."""

from pathlib import Path

import gates
import pytest
import torch

from rairl_lightning.models import ExpectationHead, FullFineTuning, LinearHead
from rairl_lightning.models.specs import BackboneSpec
from rairl_lightning.types import TokenBatch


@pytest.mark.parametrize("head", [LinearHead(), ExpectationHead(8)])
def test_its_own_embeddings_change_nothing_and_others_do(base: Path, head):
    discriminator = FullFineTuning(BackboneSpec(str(base)), head).build().discriminator
    for parameter in discriminator.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    codec = FullFineTuning(BackboneSpec(str(base))).load_codec()
    tokens = TokenBatch.from_traces([codec.encode_demonstration(gates.solution(gate)) for gate in (1, 23)], 0)
    embeddings = discriminator.embed(tokens)
    real = tokens.attention_mask
    torch.testing.assert_close(discriminator(tokens, embeddings)[real], discriminator(tokens)[real])
    assert not torch.allclose(discriminator(tokens, embeddings + 1)[real], discriminator(tokens)[real])


def test_the_head_reads_the_embeddings_it_is_given(base: Path):
    head = ExpectationHead(8, use_hidden=False, use_logprob=False, use_running_min=False)
    discriminator = FullFineTuning(BackboneSpec(str(base)), head).build().discriminator
    for parameter in discriminator.head.mlp.parameters():
        torch.nn.init.normal_(parameter)
    codec = FullFineTuning(BackboneSpec(str(base))).load_codec()
    tokens = TokenBatch.from_traces([codec.encode_demonstration(gates.solution(1))], 0)
    last = int(tokens.lengths_N) - 1
    embeddings = discriminator.embed(tokens).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(tokens, embeddings)[0, last], embeddings)
    # Nothing but the product feature of the last token, h_{t-1} ⊙ e(x_t), sees its embedding.
    assert gradient[0, last].any()
