"""Who is compared with whom, before and after a draw."""

from __future__ import annotations

import torch

from rairl_lightning.algorithms.labelled import Draw, LabelledTraces
from rairl_lightning.types import Demonstration, Perturbed, Rollouts, TokenBatch, TraceIds, TrainBatch


def traces(*lengths: int) -> TokenBatch:
    one = [TraceIds([1, 2], [3] * length, [True] * length, [(0, 1)] * length) for length in lengths]
    return TokenBatch.from_traces(one, 0)


def a_round() -> LabelledTraces:
    """Rows 0-1 demonstrations, 2-7 three rollouts each, 8 replayed, 9-10 perturbed: of prompts 1 and 0."""
    experts = traces(4, 5)
    perturbed = Perturbed(traces(4, 5), torch.zeros(2, 2, dtype=torch.int32), torch.tensor([1, 0]), ("a", "b"))
    batch = TrainBatch((Demonstration("", "", "", ""),) * 2, ((1, 2),) * 2, experts, perturbed, traces(3))
    tokens = traces(2, 3, 4, 5, 6, 7)
    rollouts = Rollouts(tokens, torch.zeros(tokens.input_ids.shape), torch.ones(6).bool(), ("",) * 6, 3)
    positive = torch.tensor([True, False, False, False, False, True])
    return LabelledTraces.of_round(batch, rollouts, positive, 0)


def test_every_trace_knows_the_demonstration_of_its_prompt() -> None:
    labelled = a_round()
    assert labelled.rivals_M.tolist() == [-1, -1, 0, 0, 0, 1, 1, 1, -1, 1, 0]
    assert labelled.prompts_M.tolist() == [0, 1, 0, 0, 0, 1, 1, 1, -1, 1, 0]
    assert torch.nonzero(labelled.labels_expert_is_one_M).flatten().tolist() == [0, 1, 2, 7]


def test_a_draw_keeps_pairs_where_it_is_told_to() -> None:
    labelled = a_round()
    logprobs = labelled.tokens.completion_lengths_N[:, None] * labelled.tokens.completion_mask.float()
    labelled = labelled.with_logprobs(logprobs)
    parted = 0
    for seed in range(20):
        plain = Draw(3)(labelled, torch.Generator().manual_seed(seed))
        pairs = Draw(3)(labelled, torch.Generator().manual_seed(seed), keep_pairs=True)
        assert len(plain) == 3 <= len(pairs) <= 5
        assert torch.equal(plain.tokens.lengths_N, pairs.tokens.lengths_N[:3]), "the draw itself is the same"
        assert torch.equal(plain.labels_expert_is_one_M, pairs.labels_expert_is_one_M[:3])
        for row, rival in enumerate(pairs.rivals_M.tolist()):
            assert rival < 0 or (pairs.labels_expert_is_one_M[rival] and pairs.rivals_M[rival] < 0)
            parted += rival >= 0 and row < 3 and int(plain.rivals_M[row]) < 0
        for drawn in (plain, pairs):
            mask = drawn.tokens.completion_mask
            assert torch.equal(drawn.old_logprobs_MT, mask.sum(dim=1, keepdim=True) * mask.float())
    assert parted > 0, "negative control: without being told, pairs are parted"
