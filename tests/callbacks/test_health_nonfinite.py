"""Updates that are not finite: Health mends them, and without it they are named."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import pytest
import torch
from collapsing import expected_collapse, run
from lightning import Callback
from torch import Tensor

from rairl_lightning.algorithms.phases import Phase, Warmup
from rairl_lightning.callbacks import (
    DiscriminatorProbe,
    Health,
    Reranking,
    TraceLogger,
)
from rairl_lightning.components.rewards import ClippedLogit
from rairl_lightning.errors import TrainingError
from rairl_lightning.module import RAIRL

ROUND = itertools.count()


@dataclass(frozen=True)
class Poison(ClippedLogit):
    """Not a number in its fifth round."""

    def __call__(self, *args: Any) -> Tensor:
        rewards = super().__call__(*args)
        return rewards * float("nan") if next(ROUND) == 4 else rewards


@expected_collapse
def test_an_update_that_is_not_finite_is_mended(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROUND", itertools.count())
    done = run(base, tmp_path, Health(every_n_rounds=2, confirm=1), rounds=8, reward=Poison(), read=True)
    assert [collapse.round for collapse in done.health.collapses] == [5]
    assert "SkippedUpdates" in done.health.collapses[0].signs and done.health.collapses[0].restored == 2
    assert done.module.clock.round == 8 and all(t.isfinite().all() for t in done.states[8].values())


class PoisonedHead(Callback):
    """The discriminator's head is no number from the start of the fifth round on."""

    def on_train_batch_start(self, trainer: Any, pl_module: RAIRL, *_: Any) -> None:
        if pl_module.clock.round == 4 and pl_module.clock.phase is Phase.ADVERSARIAL:
            with torch.no_grad():
                for parameter in pl_module.models.discriminator.head.parameters():
                    parameter.fill_(float("nan"))


@expected_collapse
def test_a_discriminator_that_scores_no_numbers_is_mended(base: Path, tmp_path: Path) -> None:
    health = Health(every_n_rounds=2, confirm=1)
    evaluated = [DiscriminatorProbe(1, questions=4, samples=4), Reranking(5, 3, 4), TraceLogger(5, 3)]
    done = run(base, tmp_path, health, rounds=8, more=[PoisonedHead(), *evaluated], warmup=Warmup(0), read=True)
    assert [(collapse.round, collapse.restored) for collapse in health.collapses] == [(5, 2)]
    assert "SkippedUpdates" in health.collapses[0].signs and "HeldoutAuroc" not in health.collapses[0].signs
    assert done.module.clock.round == 8 and all(t.isfinite().all() for t in done.states[8].values())
    notes = done.trainer.logger
    assert len(notes.having("discriminator/heldout_auroc")) == 7, "one is not to be had"
    assert all(math.isfinite(area) for area in notes.having("discriminator/heldout_auroc"))
    assert done.module.clock.heldout_auroc == notes.having("discriminator/heldout_auroc")[-1]


@pytest.mark.filterwarnings("ignore:.*was skipped")
def test_without_it_such_a_discriminator_stops_the_run(base: Path, tmp_path: Path) -> None:
    module = gates.module(gates.full(base), rounds=8, warmup=Warmup(0))
    with pytest.raises(TrainingError, match="discriminator are not finite; the last 4 were not made"):
        gates.trainer(tmp_path, [PoisonedHead()]).fit(module, datamodule=gates.data())
    assert module.skipped_updates >= 4


def test_without_it_one_such_update_is_named_and_the_run_goes_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROUND", itertools.count())
    module = gates.module(gates.full(base), rounds=6, reward=Poison())
    told = r"adversarial, step 7: an update of the policy was skipped \(not tried\); the reward is not finite in "
    with pytest.warns(UserWarning, match=told + '8 of 8 traces: trace 0, nan at its token 0: "<think>'):
        gates.trainer(tmp_path).fit(module, datamodule=gates.data())
    assert (module.clock.round, module.clock.policy_updates, module.skipped_updates) == (6, 5, 1)
    assert all(tensor.isfinite().all() for tensor in gates.weights(module).values())
