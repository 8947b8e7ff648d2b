"""R-AIRL through a real ``Trainer.fit``: what moves, when, what is logged, and that only randomness may differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from gates import fit
from torch import Tensor

from rairl_lightning.algorithms.optimisation import PATIENCE, Player, Update
from rairl_lightning.algorithms.phases import SFTInitialisation, Warmup
from rairl_lightning.components import (
    AurocBand,
    BinaryCrossEntropy,
    ClippedSurrogate,
    Constant,
    CosineWithWarmup,
    Fixed,
    UpdateBudget,
)
from rairl_lightning.errors import ConfigError, TrainingError
from rairl_lightning.rollouts import HFSampler

SAME = 1e-5
EACH_ROUND = {
    *("reward/mean", "reward/group_std", "reward/zero_std_groups"),
    *("discriminator/loss", "discriminator/accuracy_expert", "discriminator/accuracy_policy", "discriminator/auroc"),
    *("policy/kl", "policy/entropy", "policy/clip_fraction", "policy/loss"),
    *("rollouts/length", "rollouts/format_rate", "rollouts/distinct_rate", "rollouts/agreement", "round"),
    *(f"{player}/{what}" for player in ("policy", "discriminator") for what in ("update_norm", "learning_rate")),
    *(f"time/{phase}" for phase in ("sample", "discriminator", "score", "policy")),
    *(f"tokens_per_second/{phase}" for phase in ("sample", "discriminator", "score", "policy")),
}


# --- What moves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [gates.full, gates.shared, lambda base: gates.shared(base, "nf4")],
    ids=["full", "shared", "shared-nf4"],
)
def test_an_update_moves_its_player_and_nothing_else(
    base: Path, tmp_path: Path, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = gates.module(spec(base), sft=SFTInitialisation(1, monitor="log_likelihood"), rounds=1)
    module.configure_model()
    pair = module.models
    own = {id(p) for player in ("policy", "discriminator") for p in pair.trainable_parameters(player)}
    frozen = {name: p for name, p in pair.named_parameters() if id(p) not in own and not name.startswith("reference")}
    before_all = {name: p.detach().clone() for name, p in frozen.items()}
    moved: list[tuple[str, set[str]]] = []
    update = Player.update

    def spy(self: Player, *args: Any) -> Update:
        before = gates.weights(module)
        done = update(self, *args)
        after = gates.weights(module)
        assert done.update_norm > 0
        moved.append((self.name, {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}))
        return done

    monkeypatch.setattr(Player, "update", spy)
    fit(module, tmp_path, limit_val_batches=1.0)
    assert {name for name, _ in moved} == {"sft", "discriminator", "policy"}
    for name, roles in moved:
        assert roles == {"discriminator" if name == "discriminator" else "policy"}
    assert bool(frozen) == pair.adapters_only
    assert all(torch.equal(before_all[name], p) for name, p in frozen.items())


def test_training_is_in_training_mode_and_recomputes_activations(base: Path, tmp_path: Path) -> None:
    calls: dict[bool, int] = {}
    for recompute in (False, True):
        spec = replace(gates.shared(base), activation_checkpointing=recompute)
        module = gates.module(spec, rounds=1, warmup=Warmup(0))
        module.configure_model()
        assert module.models.policy.training and module.models.discriminator.training
        assert not any(part.training for part in module.models.reference.modules())
        calls[recompute] = 0

        def count(*_: Any, recompute: bool = recompute) -> None:
            calls[recompute] += 1

        module.models.discriminator.decoder.layers[0].mlp.register_forward_pre_hook(count)
        fit(module, tmp_path)
    assert calls == {False: 1 + 2 + 1, True: 1 + 2 * 2 + 1}, "one trial at the start, two updates and one scoring"


@pytest.mark.parametrize("still", ["policy", "discriminator"])
def test_a_player_that_never_moves_is_an_error(base: Path, tmp_path: Path, still: str) -> None:
    def run(rounds: int) -> None:
        frozen = {f"{still}_optimizer": gates.optimizer(0.0), "group_size": 2, "sampler": HFSampler(max_new_tokens=4)}
        module = gates.module(
            gates.full(base), rounds=rounds, warmup=Warmup(0), discriminator_updates=Fixed(1), **frozen
        )
        fit(module, tmp_path)

    run(PATIENCE - 1)
    with pytest.raises(TrainingError, match=f"The {still} has not moved for {PATIENCE} updates"):
        run(PATIENCE)


# --- What is logged -----------------------------------------------------------------------------------------------


def test_every_round_logs_every_figure(base: Path, tmp_path: Path) -> None:
    rows = fit(gates.module(gates.shared(base), rounds=3), tmp_path).logger.rows
    rounds = [row for row in rows if row.get("round", 0) > 0]
    assert [row["round"] for row in rounds] == [1, 2, 3]
    for row in rounds:
        assert row.keys() >= EACH_ROUND, EACH_ROUND - row.keys()
        assert all(torch.isfinite(torch.tensor(float(row[name]))) for name in EACH_ROUND - {"discriminator/auroc"})
        assert min(row["policy/update_norm"], row["discriminator/update_norm"]) > 0
        assert min(value for name, value in row.items() if name.startswith(("time/", "tokens_per_second/"))) > 0
    warm_up = next(row for row in rows if row.get("round") == 0)
    assert "discriminator/loss" in warm_up and "policy/loss" not in warm_up


def test_logged_figures_are_those_of_the_rollouts(base: Path, tmp_path: Path) -> None:
    row = fit(gates.module(gates.full(base), rounds=1), tmp_path).logger.rows[-1]
    assert row["rollouts/format_rate"] > 0.7, "the toy speaks its language"
    assert 0.2 < row["rollouts/agreement"] < 0.8, "and goes left about half of the time"
    assert row["rollouts/length"] == pytest.approx(14, abs=1)
    assert row["policy/ratio"] == pytest.approx(1, abs=1e-5), "rollouts are on-policy"
    assert row["policy/kl"] == pytest.approx(0, abs=1e-6), "the policy starts at the reference"


# --- Splits, seeds ------------------------------------------------------------------------------------------------


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Adam would blow rounding of a vanishing gradient up to a whole step."""
    return torch.optim.SGD(parameters, lr=0.1)


def after_one_round(base: Path, folder: Path, **settings: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)  # heads start at random
    optimizers = {f"{player}_optimizer": sgd for player in ("policy", "discriminator")}
    module = gates.module(
        gates.full(base), rounds=1, warmup=Warmup(0), gradient_clip=100.0, **{**optimizers, **settings}
    )
    fit(module, folder)
    return gates.weights(module)


@dataclass(frozen=True)
class WeighsEachMicroBatch(BinaryCrossEntropy):
    """Wrong on purpose: averages within a micro-batch."""

    def __call__(self, logits_NT: Tensor, labels_N: Tensor, grid_NT: Tensor, weights_N: Tensor, *_: Any) -> Tensor:
        return super().__call__(logits_NT, labels_N, grid_NT, self.trace_weights(labels_N, grid_NT.sum(dim=1)))


@dataclass(frozen=True)
class NormalisesEachMicroBatch(ClippedSurrogate):
    """Wrong on purpose: averages within a micro-batch."""

    def __call__(self, logprobs: Tensor, old: Tensor, reference: Any, advantages: Tensor, weights: Tensor) -> Any:
        return super().__call__(logprobs, old, reference, advantages, weights / weights.sum())


@pytest.mark.parametrize(
    "wrong", [{}, {"discriminator_loss": WeighsEachMicroBatch()}, {"policy_loss": NormalisesEachMicroBatch()}]
)
def test_the_micro_batch_split_changes_nothing(base: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    whole = after_one_round(base, tmp_path, **wrong)
    parts = after_one_round(base, tmp_path, max_tokens_per_microbatch=50, **wrong)
    difference = gates.largest_difference(whole, parts)
    assert difference > SAME if wrong else difference < SAME
    assert gates.largest_difference(whole, gates.started(gates.module(gates.full(base)))) > 100 * SAME, "nothing moved"


def test_the_seed_decides_everything(base: Path, tmp_path: Path) -> None:
    def run(seed: int, noise: int = 0) -> dict[str, Tensor]:
        torch.manual_seed(0)  # adapters and heads start at random
        module = gates.module(gates.shared(base, dropout=0.1), rounds=2, seed=seed)
        module.configure_model()
        torch.manual_seed(noise)
        fit(module, tmp_path)
        return gates.weights(module)

    first, again, other = run(seed=1), run(seed=1, noise=1), run(seed=2)
    assert gates.largest_difference(first, again) == 0, "torch's own generator was drawn from"
    assert gates.largest_difference(first, other) > 0


# --- Settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"group_size": 0},
        {"rounds": -1},
        {"gradient_clip": 0.0},
        {"discriminator_batch": 1},
        {"max_tokens_per_microbatch": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        gates.module(None, **wrong)


def test_models_are_loaded_once_and_not_before(base: Path) -> None:
    module = gates.module(gates.full(base))
    assert module.codec.encode_prompt("gate 1"), "the tokenizer is there at once"
    with pytest.raises(ConfigError, match="not loaded"):
        _ = module.models
    module.configure_model()
    pair = module.models
    module.configure_model()
    assert module.models is pair


def test_schedules_span_the_updates_of_their_player(base: Path, tmp_path: Path) -> None:
    schedule = CosineWithWarmup(0.0, 0.5)
    module = gates.module(
        gates.full(base), rounds=4, policy_schedule=schedule, discriminator_schedule=schedule, sft_schedule=Constant()
    )
    trainer = fit(module, tmp_path)
    expected = [1e-3 * schedule.factor(update, 4) for update in range(4)]
    assert trainer.logger.having("policy/learning_rate") == pytest.approx(expected)
    first_of_each_step = [1e-3 * schedule.factor(update, 4 + 4 * 2) for update in range(0, 12, 2)]
    assert trainer.logger.having("discriminator/learning_rate") == pytest.approx(first_of_each_step)


@pytest.mark.parametrize(
    ("warmup", "budget", "updates"),
    [
        (250, Fixed(20), 260 + 40),
        (250, Fixed(1), 250 + 2),
        (0, Fixed(20), 40),
        (5, AurocBand(minimum=1, maximum=6), 8 + 12),
    ],
)
def test_the_discriminators_schedule_spans_the_warm_ups_whole_steps(
    warmup: int, budget: UpdateBudget, updates: int
) -> None:
    module = gates.module(None, warmup=Warmup(warmup), discriminator_updates=budget, rounds=2)
    assert module.planned_updates()["discriminator"] == updates


def test_a_warm_up_that_goes_beyond_its_updates_goes_on_learning(base: Path, tmp_path: Path) -> None:
    beyond = PATIENCE  # as many updates without a learning rate as end a run
    budget, schedule = Fixed(4 + beyond), CosineWithWarmup()
    module = gates.module(
        gates.full(base), warmup=Warmup(4), discriminator_updates=budget, discriminator_schedule=schedule, rounds=0
    )
    fit(module, tmp_path)
    assert module.clock.discriminator_updates == 4 + beyond
