"""Supervised fine-tuning: its loss by hand, and which epoch is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gates
import pytest
import torch

from rairl_lightning.algorithms.phases import Clock, Phase, SFTInitialisation, Warmup
from rairl_lightning.algorithms.supervised import BestEpoch, sft_for, sft_losses
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import TokenBatch


@pytest.fixture(scope="module")
def pair(base: Path) -> Any:
    return gates.full(base).build()


def experts(pair: Any) -> TokenBatch:
    rows = [pair.codec.encode_demonstration(gates.solution(gate)) for gate in (1, 12, 3)]
    return TokenBatch.from_traces(rows, pair.codec.pad_id)


@pytest.mark.parametrize("max_tokens", [20, 40, 10_000])
def test_the_loss_is_the_mean_over_completion_tokens(pair: Any, max_tokens: int) -> None:
    tokens = experts(pair)
    with torch.no_grad():
        logits = pair.policy.causal_lm(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask.long(), position_ids=tokens.position_ids
        ).logits.log_softmax(-1)
        chosen = logits[:, :-1].gather(2, tokens.input_ids[:, 1:, None]).squeeze(2)
        expected = -chosen[tokens.completion_mask[:, 1:]].mean()
        with_prompt = -chosen[tokens.attention_mask[:, 1:]].mean()
        total = sum(sft_losses(pair.policy, tokens, max_tokens))
    assert float(total) == pytest.approx(float(expected), abs=1e-5)
    assert float(with_prompt) != pytest.approx(float(expected), abs=1e-5), "negative control: the prompt is not learnt"


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(pair: Any, side: str) -> None:
    rows = experts(pair).traces()
    longer = replace(rows[0], prompt_ids=[*rows[0].prompt_ids] * 3)  # the other three are padded to its length
    padded = TokenBatch.from_traces([*rows, longer], pair.codec.pad_id, side=side)
    padded = replace(padded, completion_mask=padded.completion_mask & torch.tensor([[True]] * 3 + [[False]]))
    with torch.no_grad():
        plain, other = (float(sum(sft_losses(pair.policy, one, 10_000))) for one in (experts(pair), padded))
        read = padded.attention_mask & (padded.position_ids > 0)  # nothing predicts a first token
        learnt = replace(padded, completion_mask=read & torch.tensor([[True]] * 3 + [[False]]))
        with_prompt = float(sum(sft_losses(pair.policy, learnt, 10_000)))
    assert other == pytest.approx(plain, abs=1e-5)
    assert with_prompt != pytest.approx(plain, abs=1e-5), "negative control: a mask that holds the prompt"


def test_training_stops_when_the_time_is_over(base: Path) -> None:
    pair = gates.full(base).build()
    optimizer = gates.optimizer()(pair.trainable_parameters("policy"))
    batches, used = [experts(pair)] * 5, []

    def counted() -> Any:
        for batch in batches:
            used.append(batch)
            yield batch

    assert sft_for(pair.policy, optimizer, counted(), 1e-9, 1000, 1.0) == 0 and len(used) == 1
    used.clear()
    left = sft_for(pair.policy, optimizer, counted(), 1000.0, 1000, 1.0)
    assert 900 < left < 1000 and len(used) == 5


def test_the_best_epoch_is_a_copy_and_ties_keep_the_earlier() -> None:
    best, weight = BestEpoch(patience=2), torch.zeros(1)
    for score, value in ((0.2, 1.0), (0.5, 2.0), (0.5, 3.0)):
        weight.fill_(value)
        best.offer(score, {"w": weight})
        assert not best.exhausted
    best.offer(0.4, {"w": weight})
    assert best.exhausted and best.state["w"].item() == 2 and best.score == 0.5
    other = BestEpoch(2)
    other.load_state_dict(best.state_dict())
    assert other.exhausted and other.state["w"].item() == 2


def test_the_clock_survives_its_state() -> None:
    clock = Clock(Phase.WARMUP, 1, 2, 3, 4, 5, 0.75)
    state = clock.state_dict()
    assert Clock.from_state(state) == clock
    assert all(type(value) in (str, int, float) for value in state.values()), "plain values only"


@pytest.mark.parametrize(
    "make",
    [
        lambda: SFTInitialisation(epochs=-1),
        lambda: SFTInitialisation(patience=0),
        lambda: SFTInitialisation(monitor="test/pass@1"),
        lambda: Warmup(updates=-1),
        lambda: Warmup(until_auroc=0.5),
        lambda: Warmup(until_auroc=1.1),
        lambda: Warmup(updates=0, until_auroc=0.8),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match="cannot run"):
        make()
