import torch
from transformers import LlamaConfig, MistralConfig

from rairl_lightning.models.cache import BLOCK, growing_cache


def test_appending_in_place_equals_concatenation():
    layer = growing_cache(LlamaConfig(num_hidden_layers=1)).layers[0]
    expected = torch.empty(2, 3, 0, 4)
    for step in range(BLOCK + 10):
        new = torch.randn(len(expected), 3, 5 if step == 0 else 1, 4)
        expected = torch.cat([expected, new], dim=2)
        keys, values = layer.update(new, -new)
        assert torch.equal(keys, expected) and torch.equal(values, -expected)
        if step == 3:
            layer.batch_repeat_interleave(4)
            expected = expected.repeat_interleave(4, dim=0)
        if step in (7, BLOCK + 2):
            kept = torch.arange(0, len(expected), 2)
            layer.batch_select_indices(kept)
            expected = expected[kept]
    assert layer.get_seq_length() == expected.shape[2]


def test_the_past_stays_where_it_is():
    layer = growing_cache(LlamaConfig(num_hidden_layers=1)).layers[0]
    pointers = {layer.update(torch.randn(1, 1, 1, 4), torch.randn(1, 1, 1, 4))[0].data_ptr() for _ in range(BLOCK)}
    assert len(pointers) == 1


def test_sliding_windows_keep_their_own_layers():
    kinds = [type(c.layers[0]) for c in map(growing_cache, (LlamaConfig(), MistralConfig(sliding_window=8)))]
    assert kinds[0] is not kinds[1]
