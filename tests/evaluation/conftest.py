from pathlib import Path

import gates
import pytest
from scoring import InMemory
from short_runs import train
from traces import a_reward, completion, sampled

from rairl_lightning.algorithms.phases import SFTInitialisation
from rairl_lightning.evaluation.scoring import Trace, traces_of
from rairl_lightning.evaluation.trained import TrainedReward


@pytest.fixture(scope="module")
def reward(base: Path) -> TrainedReward:
    return a_reward(base)


@pytest.fixture
def some() -> list[Trace]:
    """Ten traces of lengths that go up and down."""
    questions = [sampled(gate, completion(gate % 4, "left"), completion(5 - gate, "right")) for gate in range(5)]
    return list(traces_of(InMemory(*questions)))


@pytest.fixture(scope="session")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests copy what they break."""
    folder = tmp_path_factory.mktemp("run")
    train(gates.shared(base), folder, sft=SFTInitialisation(1, monitor="log_likelihood"))
    return folder
