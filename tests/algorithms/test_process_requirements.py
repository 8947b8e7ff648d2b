from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

from rairl_lightning.algorithms.process_requirements import require_strategy
from rairl_lightning.errors import ConfigError


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy("cpu"), DDPStrategy()])
def test_processes_that_hold_both_players_whole_are_taken(strategy: Any) -> None:
    require_strategy(SimpleNamespace(strategy=strategy))


@pytest.mark.parametrize(
    ("strategy", "told"),
    [(ModelParallelStrategy(), "ddp on several"), (DDPStrategy(ddp_comm_hook=print), "never be called")],
)
def test_others_are_refused(strategy: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        require_strategy(SimpleNamespace(strategy=strategy))
