import torch

from rairl_lightning.components import TwoHead
from rairl_lightning.models import ExpectationHead, HeadInputs, LinearHead, TwoHeads


def test_g_and_h_are_what_the_two_heads_emit(codec, helpers):
    tokens = helpers.traces(codec)
    embedding = torch.nn.Embedding(len(codec.tokenizer), 16)
    hidden = torch.randn(*tokens.input_ids.shape, 16)
    inputs = HeadInputs(hidden, tokens, embedding, lambda states: states @ embedding.weight.T)
    head = TwoHeads(ExpectationHead(), LinearHead()).build(16)
    assert not head(inputs).any(), "it starts silent"
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    g, h = head(inputs).unbind(dim=-1)
    assert torch.equal(g, head.reward(inputs)) and torch.equal(h, head.potential(inputs)) and not torch.equal(g, h)


def test_the_lm_head_is_asked_for_if_either_reads_it():
    linear, expectation = LinearHead(), ExpectationHead()
    pairs = [(linear, linear), (linear, expectation), (expectation, linear)]
    assert [TwoHeads(*pair).needs_lm_head for pair in pairs] == [False, True, True]


def test_the_critic_finds_the_potential_by_name():
    head = TwoHeads().build(16)
    named = {f"head.{name}": parameter for name, parameter in head.named_parameters()}
    rest, potential = TwoHead().parameter_groups(named)
    assert {id(p) for p in potential.parameters} == {id(p) for p in head.potential.parameters()}
    assert {id(p) for p in rest.parameters} == {id(p) for p in head.reward.parameters()}
