import gates
import pytest
import torch

from rairl_lightning.algorithms.nonfinite import all_finite, culprits
from rairl_lightning.types import TokenBatch

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("side", ["left", "right"])
def test_traces_are_named_whatever_the_padding(base, side):
    codec = gates.full(base).load_codec()
    traces = [codec.encode_demonstration(gates.solution(gate)) for gate in (3, 12, 5)]
    traces[1] = codec.trace(traces[1].prompt_ids, traces[1].completion_ids[:4])[0]
    tokens = TokenBatch.from_traces(traces, codec.pad_id, side=side)
    values_NT = torch.zeros(tokens.input_ids.shape).masked_fill(~tokens.completion_mask, NAN)
    assert all_finite(values_NT, tokens), "outside of the completion anything may stand"
    assert "reward of every token of the 3 traces is finite" in culprits("reward", values_NT, tokens, codec)
    first = int(tokens.completion_mask[1].long().argmax())
    values_NT[1, first + 2 : first + 4] = torch.tensor([-INF, NAN])
    told = culprits("reward", values_NT, tokens, codec)
    assert not all_finite(values_NT, tokens)
    assert told.startswith('the reward is not finite in 1 of 3 traces: trace 1, -inf at its token 2: "<think>')
