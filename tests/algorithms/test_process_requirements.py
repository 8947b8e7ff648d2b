from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, StrategyRegistry

from rairl_lightning.algorithms import sharded
from rairl_lightning.algorithms.process_requirements import require_strategy
from rairl_lightning.algorithms.sharded import FSDP2
from rairl_lightning.cli_checks import check_trainer
from rairl_lightning.errors import ConfigError


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy("cpu"), DDPStrategy(), FSDP2()])
def test_processes_that_hold_both_players_whole_or_in_our_shards_are_taken(strategy: Any) -> None:
    require_strategy(SimpleNamespace(strategy=strategy))


@pytest.mark.parametrize(
    ("strategy", "told"),
    [(ModelParallelStrategy(), "ddp or fsdp2 on several"), (DDPStrategy(ddp_comm_hook=print), "never be called")],
)
def test_others_are_refused(strategy: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        require_strategy(SimpleNamespace(strategy=strategy))


@pytest.mark.parametrize("named", ["fsdp2", {"class_path": "rairl_lightning.algorithms.sharded.FSDP2"}])
def test_the_command_line_takes_our_shards(named: Any) -> None:
    check_trainer({"strategy": named}, manual=True)
    with pytest.raises(ConfigError, match="is refused"):
        check_trainer({"strategy": "fsdp"}, manual=True)
    assert isinstance(StrategyRegistry.get("fsdp2"), FSDP2)


def test_an_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "OLDEST", "torch>=1000")
    with pytest.raises(ConfigError, match="torch>=1000"):
        FSDP2()
