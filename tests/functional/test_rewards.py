import pytest
import torch

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional import logit_to_reward


def test_is_the_airl_reward_inside_the_clip():
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)
    probability = logits.sigmoid()
    airl = probability.log() - (1 - probability).log()
    torch.testing.assert_close(logit_to_reward(logits), airl)
    with pytest.raises(AssertionError):  # control: GAIL's reward
        torch.testing.assert_close(logit_to_reward(logits), -(1 - probability).log())


def test_clip_and_temperature():
    assert logit_to_reward(torch.tensor([-20.0, 6.0, 40.0]), temperature=2.0, clip=4.0).tolist() == [-4.0, 3.0, 4.0]


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"clip": -1.0}, {"clip": float("nan")}])
def test_ranges(bad):
    with pytest.raises(ConfigError):
        logit_to_reward(torch.zeros(1), **bad)
