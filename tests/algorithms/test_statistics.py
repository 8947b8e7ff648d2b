import pytest
import torch

from rairl_lightning.algorithms.statistics import reward_statistics, rollout_statistics
from rairl_lightning.text.chat import render_completion
from rairl_lightning.types import Rollouts, TokenBatch, TraceIds


def test_rollout_statistics_by_hand() -> None:
    lengths = (1, 2, 3, 6)
    tokens = TokenBatch.from_traces([TraceIds([1], [2] * n, [False] * n, [(0, 0)] * n) for n in lengths], 0)
    good = render_completion("a", "1")
    finished = torch.tensor([True, True, True, False])
    rollouts = Rollouts(tokens, torch.zeros(tokens.input_ids.shape), finished, (good, good, good, "cut"), 2)
    assert rollout_statistics(rollouts, torch.tensor([True, False, False, False])) == {
        "rollouts/length": 3,
        "rollouts/finished_rate": 0.75,
        "rollouts/format_rate": 0.75,
        "rollouts/answer_rate": 0.75,
        "rollouts/distinct_rate": 0.75,  # 1 of 2, 2 of 2; the same text in two groups is no repetition
        "rollouts/agreement": 0.25,
    }


def test_reward_statistics_by_hand() -> None:
    mask = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 1]]).bool()
    rewards = torch.tensor([[9.0, 1.0, 3.0], [9.0, 4.0, 9.0], [9.0, 1.0, 1.0], [9.0, 0.0, 2.0]])
    found = reward_statistics(rewards, mask, 2)  # traces: 2, 4 | 1, 1
    assert found == {"reward/mean": 2, "reward/group_std": pytest.approx(0.5), "reward/zero_std_groups": 0.5}
