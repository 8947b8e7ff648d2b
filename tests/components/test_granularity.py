import pytest
import torch

from rairl_lightning.components import ClippedLogit, Dense, Interval, Sparse, Step
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import TokenBatch, TraceIds


def trace(prompt: int, completion: int) -> TraceIds:
    ends = [t % 3 == 1 for t in range(completion)]
    return TraceIds([1] * prompt, list(range(completion)), ends, [(t, t + 1) for t in range(completion)])


TRACES = [trace(2, 7), trace(5, 3), trace(1, 12)]


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [
        (Sparse(), [6]),
        (Interval(every=3), [2, 5, 6]),
        (Step(), [1, 4, 6]),
        (Dense(), [0, 1, 2, 3, 4, 5, 6]),
    ],
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_reads_where_its_name_says(granularity, expected, side):
    tokens = TokenBatch.from_traces(TRACES, pad_id=0, side=side)
    grid = granularity(tokens)
    assert grid[0, tokens.completion_mask[0]].nonzero().flatten().tolist() == expected
    assert not grid[~tokens.completion_mask].any()


@pytest.mark.parametrize("granularity", [Sparse(), Interval(every=4), Step(), Dense()])
def test_rewards_depend_neither_on_padding_nor_on_the_batch(granularity):
    generator = torch.Generator().manual_seed(0)
    logits = [4 * torch.randn(len(one), generator=generator) for one in TRACES]

    def rewards(rows, side):
        tokens = TokenBatch.from_traces([TRACES[row] for row in rows], pad_id=0, side=side)
        padded = torch.full(tokens.input_ids.shape, 99.0)
        for n, row in enumerate(rows):
            padded[n, tokens.attention_mask[n]] = logits[row]
        out = ClippedLogit()(padded, granularity(tokens), tokens)
        assert not out[~tokens.completion_mask].any()
        return {row: out[n, tokens.completion_mask[n]].tolist() for n, row in enumerate(rows)}

    whole = rewards([0, 1, 2], "right")
    assert rewards([0, 1, 2], "left") == whole
    assert rewards([2, 0], "left") | rewards([1], "right") == whole
    assert all(abs(value) <= 5 for values in whole.values() for value in values)


def test_dense_is_interval_one_and_a_long_interval_is_sparse():
    tokens = TokenBatch.from_traces(TRACES, pad_id=0)
    assert torch.equal(Dense()(tokens), Interval(every=1)(tokens))
    assert torch.equal(Sparse()(tokens), Interval(every=100)(tokens))


def test_ranges():
    with pytest.raises(ConfigError, match="every"):
        Interval(every=0)
    with pytest.raises(ConfigError, match="temperature"):
        ClippedLogit(temperature=0.0)
    with pytest.raises(ConfigError, match="clip"):
        ClippedLogit(clip=-1.0)
