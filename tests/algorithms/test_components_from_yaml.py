"""Every component, named in YAML, through a real ``Trainer.fit``."""

from __future__ import annotations

import inspect
import re
from abc import ABC
from pathlib import Path
from typing import Any

import gates
import jsonargparse
import pytest
import torch
import yaml
from gates import fit, started

from rairl_lightning import components
from rairl_lightning.algorithms import GRPO
from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks import DiscriminatorProbe
from rairl_lightning.module import RAIRL

MIXES = [
    """
    granularity: {class_path: C.Sparse}
    labelling: {class_path: C.ExpertsOnly}
    critic: {class_path: C.SingleHead, init_args: {logprob: {class_path: C.NoLogprob}}}
    discriminator_loss: {class_path: C.BinaryCrossEntropy, init_args: {reduction: {class_path: C.PerPosition}}}
    reward: {class_path: C.ClippedLogit}
    reward_penalty: {class_path: C.NoPenalty}
    expert_in_group: {class_path: C.NoExpert}
    advantage: {class_path: C.GroupNormalised}
    policy_loss:
      class_path: C.ClippedSurrogate
      init_args: {normalisation: {class_path: C.TraceMean}, kl: {class_path: C.EstimateK3}, dual_clip: 3.0}
    sampler_correction: {class_path: C.Uncorrected}
    pooling: {class_path: C.TokenWeighted}
    discriminator_updates: {class_path: C.Fixed, init_args: {k: 1}}
    policy_schedule: {class_path: C.Constant}
    discriminator_schedule: {class_path: C.CosineWithWarmup}
    """,
    """
    granularity: {class_path: C.Interval, init_args: {every: 4}}
    labelling: {class_path: C.AnswerAgreement}
    critic: {class_path: C.TwoHead, init_args: {logprob: {class_path: C.MeanLogprob}, read_out: {class_path: C.ReadG}}}
    discriminator_loss: {class_path: C.Wasserstein, init_args: {reduction: {class_path: C.PerTrace}}}
    discriminator_penalty: {class_path: C.UnitGradient}
    reward_penalty: {class_path: C.KLInReward, init_args: {estimate: {class_path: C.EstimateK1}}}
    advantage: {class_path: C.GroupCentred, init_args: {scaling: {class_path: C.GroupScaling}}}
    expert_in_group: {class_path: C.SingleExpert}
    policy_loss:
      class_path: C.SequenceSurrogate
      init_args: {kl_coef: 0, normalisation: {class_path: C.TokenMean}, kl: {class_path: C.EstimateK2}}
    sampler_correction: {class_path: C.TruncatedImportance}
    pooling: {class_path: C.MeanOverGrid}
    discriminator_updates: {class_path: C.AurocBand}
    """,
    """
    granularity: {class_path: C.Step}
    critic:
      class_path: C.TwoHead
      init_args: {logprob: {class_path: C.SummedLogprob}, read_out: {class_path: C.ReadF}}
    discriminator_loss: {class_path: C.Hinge}
    discriminator_penalty: {class_path: C.R1Penalty}
    advantage: {class_path: C.LeaveOneOut, init_args: {scaling: {class_path: C.NoScaling}}}
    policy_loss:
      class_path: C.TruncatedSurrogate
      init_args: {normalisation: {class_path: C.ConstantLength, init_args: {max_tokens: 20}}}
    pooling: {class_path: C.Last}
    """,
    """
    granularity: {class_path: C.Dense}
    critic: {class_path: C.TwoHead, init_args: {read_out: {class_path: C.ReadMixed}}}
    discriminator_loss: {class_path: C.Pairwise}
    discriminator_penalty: {class_path: C.ApproximateR1}
    advantage: {class_path: C.RewardToGo, init_args: {scaling: {class_path: C.BatchScaling}}}
    pooling: {class_path: C.Minimum}
    """,
    """
    discriminator_loss: {class_path: C.EntropyBonus, init_args: {loss: {class_path: C.Pairwise}}}
    advantage: {class_path: C.SegmentBonus, init_args: {signal: {class_path: C.Drop}}}
    pooling: {class_path: C.Product}
    """,
    "advantage: {class_path: C.SegmentBonus, init_args: {signal: {class_path: C.ClippedChange}}}",
    "advantage: {class_path: C.SegmentBonus, init_args: {signal: {class_path: C.Level}}}",
]


def from_yaml(text: str, folder: Path, base: Path, algorithm: type[RoundsModule] = RAIRL) -> Any:
    two = "\n              class_path: rairl_lightning.models.TwoHeads" if "C.TwoHead" in text else None
    file = folder / "model.yaml"
    file.write_text(
        f"""
        pair:
          class_path: rairl_lightning.models.FullFineTuning
          init_args:
            backbone: {{path: {base}, attn_implementation: eager}}
            head: {two or "{class_path: rairl_lightning.models.ExpectationHead}"}
        sampler: {{class_path: rairl_lightning.rollouts.HFSampler, init_args: {{max_new_tokens: 20}}}}
        group_size: 3
        rounds: 2
        {"warmup: {updates: 0}" if algorithm is RAIRL else ""}
        """
        + inspect.cleandoc(text).replace("C.", "rairl_lightning.components.").replace("\n", "\n        ")
    )
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(algorithm, "model", fail_untyped=False)
    config = parser.parse_object({"model": jsonargparse.Namespace(yaml.safe_load(inspect.cleandoc(file.read_text())))})
    return parser.instantiate_classes(config).model


@pytest.mark.parametrize("text", MIXES)
def test_two_rounds_with_parts_from_yaml(base: Path, tmp_path: Path, text: str) -> None:
    module = from_yaml(text, tmp_path, base)
    before = started(module)
    trainer = fit(module, tmp_path, [DiscriminatorProbe(every_n_updates=2, questions=2, samples=2)])
    assert module.clock.round == 2
    after = gates.weights(module)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    for player in ("policy", "discriminator"):
        assert any(not torch.equal(before[n], after[n]) for n in after if n.startswith(player))
    assert trainer.logger.having("sampler/gap_max")[-1] < 1e-4, "sampler and trainer agree in float32"


GRPO_MIXES = [
    """
    verifier: {class_path: C.AnswerAndFormat, init_args: {answer: 2.0, format: 0.5}}
    advantage: {class_path: C.RewardToGo}
    sampler_correction: {class_path: C.TruncatedImportance}
    policy_loss: {class_path: C.SequenceSurrogate}
    expert_in_group: {class_path: C.SingleExpert}
    policy_epochs: 2
    """,
    """
    verifier: {class_path: C.AnswerAndFormat}
    reward_penalty: {class_path: C.KLInReward}
    advantage: {class_path: C.SegmentBonus, init_args: {signal: {class_path: C.Level}}}
    expert_in_group: {class_path: C.BalancedExpert}
    policy_minibatches: 2
    policy_loss: {class_path: C.ClippedSurrogate, init_args: {kl_coef: 0, normalisation: {class_path: C.TokenMean}}}
    """,
]


@pytest.mark.parametrize("text", GRPO_MIXES)
def test_two_rounds_of_grpo_with_parts_from_yaml(base: Path, tmp_path: Path, text: str) -> None:
    module = from_yaml(text, tmp_path, base, GRPO)
    before = started(module)
    fit(module, tmp_path)
    after = gates.weights(module)
    assert module.clock.round == 2 and all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    assert gates.largest_difference(before, after) > 0


def test_every_component_is_in_a_mix() -> None:
    classes = [getattr(components, name) for name in components.__all__]
    trained = [c for c in classes if not issubclass(c, components.StepScore)]  # which reads a reward, later
    concrete = {c.__name__ for c in trained if issubclass(c, ABC) and not inspect.isabstract(c)}
    assert concrete == set(re.findall(r"C\.(\w+)", " ".join(MIXES + GRPO_MIXES)))
