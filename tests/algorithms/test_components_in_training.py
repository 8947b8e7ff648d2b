"""Components in a real ``Trainer.fit``: what is asked for is done, and what cannot work is refused in time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from gates import fit
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from rairl_lightning import components
from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.callbacks import DiscriminatorProbe
from rairl_lightning.components import (
    Advantage,
    ApproximateR1,
    AurocBand,
    ClippedSurrogate,
    EstimateK1,
    GradientPenalty,
    Interval,
    KLInReward,
    Minimum,
    R1Penalty,
    ReadF,
    SamplerCorrection,
    SingleHead,
    TruncatedImportance,
    TwoHead,
    UnitGradient,
)
from rairl_lightning.errors import ConfigError, ModelError
from rairl_lightning.models import ExpectationHead, LinearHead, TwoHeads
from rairl_lightning.module import RAIRL

spec = partial(gates.full, attention="eager")  # penalties differentiate twice


# --- What is asked for is done ------------------------------------------------------------------------------------


def test_the_potential_has_settings_of_its_own(base: Path, tmp_path: Path) -> None:
    module = gates.module(spec(base, TwoHeads()), critic=TwoHead(potential_lr_factor=0.25), rounds=1)
    fit(module, tmp_path)
    rest, potential = module.players["discriminator"].optimizer.param_groups
    assert potential["lr"] == 0.25 * rest["lr"] > 0
    assert (potential["weight_decay"], rest["weight_decay"]) == (1e-4, 0.01)
    own = [p for n, p in module.models.named_trainable_parameters("discriminator").items() if "potential" in n]
    assert {id(p) for p in own} == {id(p) for p in potential["params"]} and len(own) == 2
    frozen = gates.module(spec(base, TwoHeads()), critic=TwoHead(potential_lr_factor=0.0), rounds=1)
    fit(frozen, tmp_path)
    assert not any(t.any() for n, t in gates.weights(frozen).items() if "potential" in n), "a factor of 0 freezes it"


@dataclass(frozen=True)
class Spy(Advantage):
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, rewards_NT: Tensor, mask_NT: Tensor, group_size: int, grid_NT: Tensor | None = None) -> Tensor:
        self.seen.append((rewards_NT, grid_NT))
        return torch.zeros_like(rewards_NT)


def test_the_advantage_is_told_where_the_reward_was_read(base: Path, tmp_path: Path) -> None:
    spy = Spy()
    fit(gates.module(spec(base), granularity=Interval(4), advantage=spy, rounds=1), tmp_path)
    ((_, grid_NT),) = spy.seen
    assert grid_NT is not None and 3 <= int(grid_NT.sum(dim=1).max()) <= 5


def test_the_kl_is_taken_from_the_reward(base: Path, tmp_path: Path) -> None:
    spy, logged = Spy(), []
    settings = {"advantage": spy, "policy_loss": ClippedSurrogate(kl_coef=0.0), "rounds": 1, "warmup": Warmup(0)}
    for penalty in (KLInReward(1.0, EstimateK1()), KLInReward(2.0, EstimateK1())):
        torch.manual_seed(0)
        module = gates.module(spec(base), reward_penalty=penalty, **settings)
        module.configure_model()
        with torch.no_grad():
            for parameter in module.models.reference.parameters():
                parameter.mul_(0.7)
        logged.append(fit(module, tmp_path).logger.rows[-1]["reward/penalty"])
    (once, grid_NT), (twice, _) = spy.seen
    module = gates.module(spec(base), **settings)
    torch.manual_seed(0)
    fit(module, tmp_path)
    plain = spy.seen[-1][0]
    taken_N = ((plain - once) * grid_NT).sum(dim=1) / grid_NT.sum(dim=1)
    assert float(taken_N.mean()) == pytest.approx(logged[0], abs=1e-4) and logged[0] > 1e-2, "it is less, not more"
    torch.testing.assert_close(plain - twice, 2 * (plain - once), atol=1e-4, rtol=1e-4)


def test_the_pooling_ranks_traces(base: Path) -> None:
    module = gates.module(spec(base), pooling=Minimum())
    module.configure_model()
    with torch.no_grad():
        for parameter in module.models.discriminator.head.parameters():
            parameter.normal_()
    data = gates.data()
    traces = [module.codec.encode_demonstration(one) for one in data.source.splits().train]
    tokens = gates.TokenBatch.from_traces(traces, module.codec.pad_id)
    rewards_NT = module.rewards(tokens)
    lowest = rewards_NT.masked_fill(~tokens.completion_mask, torch.inf).amin(dim=1)
    torch.testing.assert_close(module.trace_rewards(tokens), lowest)


def test_a_gap_between_sampler_and_trainer_is_logged_and_corrected(base: Path, tmp_path: Path) -> None:
    class Off(gates.HFSampler):
        def sample(self, *args: Any, **kwargs: Any) -> Any:
            rollouts = super().sample(*args, **kwargs)
            return replace(rollouts, logprobs=rollouts.logprobs - 0.5 * rollouts.tokens.completion_mask)

    def run(correction: SamplerCorrection) -> dict[str, float]:
        module = gates.module(spec(base), sampler=Off(max_new_tokens=20), sampler_correction=correction, rounds=1)
        return fit(module, tmp_path).logger.rows[-1]

    plain, corrected = run(components.Uncorrected()), run(TruncatedImportance())
    for row in (plain, corrected):
        assert row["sampler/gap_mean"] == pytest.approx(0.5, abs=1e-3)
    assert plain["policy/ratio"] == pytest.approx(float(torch.tensor(0.5).exp()), abs=1e-2)
    assert corrected["policy/ratio"] == pytest.approx(1, abs=1e-4), "the ratio is the trainer's own"


class SaysAuroc(Callback):
    measures_heldout_auroc = True

    def __init__(self, *values: float) -> None:
        self.values = values

    def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        pl_module.clock.heldout_auroc = self.values[pl_module.clock.round]


def test_the_discriminator_pauses_while_it_is_far_ahead(base: Path, tmp_path: Path) -> None:
    band = AurocBand(0.6, 0.9, minimum=0, maximum=4)
    module = gates.module(spec(base), discriminator_updates=band, rounds=3, warmup=Warmup(2))
    trainer = fit(module, tmp_path, [SaysAuroc(0.95, 0.75, 0.5, 0.5)])
    assert trainer.logger.having("discriminator/updates") == [2, 0, 2, 4], "the warm-up takes what is expected"
    assert module.clock.discriminator_updates == 8 and module.clock.round == 3


def test_a_discriminator_that_pauses_is_still_measured(base: Path, tmp_path: Path) -> None:
    band = AurocBand(0.6, 0.9, minimum=0, maximum=4)
    module = gates.module(spec(base), discriminator_updates=band, rounds=4, warmup=Warmup(0))
    module.clock.heldout_auroc = 0.99
    measured: list[int] = []

    class Probe(DiscriminatorProbe):
        def _measure(self, trainer: Any, module: RAIRL) -> None:
            measured.append(module.clock.round)

    fit(module, tmp_path, [Probe(every_n_updates=2)])
    assert module.clock.discriminator_updates == 0 and measured == [2, 4]


class SavesInTheMiddle(Checkpoint):
    def on_train_batch_end(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        if pl_module.clock.round == 1:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "middle.ckpt")


def test_two_heads_resume_and_travel_as_adapters(base: Path, tmp_path: Path) -> None:
    pair, critic = gates.shared(base), TwoHead(read_out=ReadF())
    pair = replace(pair, head=TwoHeads(ExpectationHead(8), LinearHead()))
    torch.manual_seed(0)  # heads start at random
    straight = gates.module(pair, critic=critic, rounds=2, warmup=Warmup(2))
    fit(straight, tmp_path, [SavesInTheMiddle()])
    module = gates.module(pair, critic=critic, rounds=2, warmup=Warmup(2))
    trainer = gates.trainer(tmp_path)
    trainer.fit(module, datamodule=gates.data(), ckpt_path=tmp_path / "middle.ckpt")
    assert module.clock.round == 2 and gates.largest_difference(gates.weights(straight), gates.weights(module)) == 0
    module.models.save_adapters(tmp_path / "adapters")
    other = gates.module(pair, critic=critic)
    other.configure_model()
    other.models.load_adapters(tmp_path / "adapters")
    assert gates.largest_difference(gates.weights(module), gates.weights(other)) == 0


# --- What cannot work is refused at the start ---------------------------------------------------------------------


def test_a_band_without_a_probe_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DiscriminatorProbe"):
        fit(gates.module(spec(base), discriminator_updates=AurocBand()), tmp_path)


@pytest.mark.parametrize("penalty", [R1Penalty(), UnitGradient()])
def test_fused_attention_is_refused_where_a_penalty_differentiates_twice(
    base: Path, tmp_path: Path, penalty: GradientPenalty
) -> None:
    pair = spec(base, attention="sdpa")
    with pytest.raises(ConfigError, match="attn_implementation: eager"):
        fit(gates.module(pair, discriminator_penalty=penalty), tmp_path)
    fit(gates.module(pair, discriminator_penalty=ApproximateR1(), rounds=1), tmp_path)


def test_a_kl_in_reward_and_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="kl_coef: 0"):
        gates.module(None, reward_penalty=KLInReward())


def test_a_critic_and_a_head_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="potential"):
        fit(gates.module(spec(base, LinearHead()), critic=TwoHead()), tmp_path)
    sft = SFTInitialisation(1, monitor="log_likelihood")
    module = gates.module(spec(base, TwoHeads()), critic=SingleHead(), sft=sft)
    with pytest.raises(ConfigError, match="do not fit"):
        fit(module, tmp_path, limit_val_batches=1.0)
    assert module.clock.batches == 0, "not only behind all of SFT"
