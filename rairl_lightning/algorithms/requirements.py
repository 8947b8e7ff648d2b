"""What a component needs from the rest of the configuration, asked before training rather than in the middle of it."""

from __future__ import annotations

from collections.abc import Iterable

from rairl_lightning.components.base import PolicyLoss
from rairl_lightning.components.divergences import RewardPenalty
from rairl_lightning.components.penalties import GradientPenalty
from rairl_lightning.errors import ConfigError


def require_probe(callbacks: Iterable[object]) -> None:
    """Some callback measures the discriminator's held-out AUROC.

    Raises:
        ConfigError: none does.
    """
    if not any(getattr(callback, "measures_heldout_auroc", False) for callback in callbacks):
        raise ConfigError(
            "The warm-up or discriminator_updates follows the held-out AUROC, which nobody measures.",
            expected="a callback that measures it",
            got="none",
            remedy="add rairl_lightning.callbacks.DiscriminatorProbe to trainer.callbacks, or do without",
        )


def require_one_kl(penalty: RewardPenalty, loss: PolicyLoss) -> None:
    """The KL to the reference is in the reward or in the loss.

    Raises:
        ConfigError: it is in both.
    """
    if penalty.needs_reference and loss.needs_reference:
        raise ConfigError(
            "The KL to the reference counts twice: in reward_penalty and in policy_loss.",
            expected="one of the two",
            got=f"{penalty} and {loss}",
            remedy="set policy_loss.init_args.kl_coef: 0, or use NoPenalty",
        )


def require_one_derivative(penalty: GradientPenalty, sharded: bool) -> None:
    """No gradient of a gradient is taken through weights in shards, which are gone by the second backward pass.

    Args:
        penalty: on the discriminator's gradient.
        sharded: whether the weights are.

    Raises:
        ConfigError: one is.
    """
    if sharded and penalty.differentiates_twice:
        raise ConfigError(
            f"{type(penalty).__name__} differentiates twice, which weights in shards do not allow.",
            expected="a penalty without a second derivative, or whole weights",
            got="trainer.strategy: fsdp2",
            remedy="use ApproximateR1, or --trainer.strategy ddp",
        )


def require_group(group_size: int) -> None:
    """A prompt is sampled.

    Raises:
        ConfigError: it is not.
    """
    if group_size < 1:
        raise ConfigError("A prompt needs samples.", expected="group_size >= 1", got=group_size)


def require_sampling(temperature: float) -> None:
    """Rounds have traces that differ.

    Args:
        temperature: of the sampler, >= 0.

    Raises:
        ConfigError: the sampler takes the most probable token, so that a group holds one trace many times over.
    """
    if temperature == 0:
        raise ConfigError(
            "Training samples at temperature 0: the traces of a group are all the same, and have no advantage.",
            expected="sampler.temperature > 0",
            got=temperature,
            remedy="set sampler.temperature: 1.0 (the paper's); evaluation is greedy where it needs to be",
        )


def require_perturbed(share: float | None, data: object) -> None:
    """The data hold perturbed demonstrations where a share of them is asked for.

    Args:
        share: of the negatives, in [0, 1] (``perturbed_share``); None asks for none.
        data: the data module; one that does not say what it makes, or none at all, is trusted.

    Raises:
        ConfigError: they hold none.
    """
    copies, kinds = getattr(data, "perturbed_copies", 1), len(getattr(data, "perturbations", "?"))
    if share and not (copies and kinds):
        raise ConfigError(
            f"perturbed_share: {share} asks for perturbed demonstrations, of which the data make none.",
            expected="data.perturbed_copies >= 1 and at least one of data.perturbations",
            got=f"{copies} of {kinds} kinds",
            remedy="set both, or perturbed_share: null",
        )


def require_reward(module: object, callback: object) -> None:
    """The algorithm learns the reward that a callback measures.

    Raises:
        ConfigError: it is a baseline, which learns none.
    """
    if getattr(module, "learns_reward", True) is False:
        raise ConfigError(
            f"{type(callback).__name__} looks at a discriminator, and {type(module).__name__} has none.",
            expected="rairl_lightning.module.RAIRL",
            got=type(module).__name__,
            remedy=f"remove {type(callback).__name__} from trainer.callbacks",
        )


def require_attention(penalty: GradientPenalty, attention: str) -> None:
    """The discriminator's attention can be differentiated as often as the penalty does.

    Raises:
        ConfigError: it cannot.
    """
    if penalty.differentiates_twice and attention != "eager":
        raise ConfigError(
            f"{type(penalty).__name__} differentiates twice, which fused attention kernels cannot.",
            expected="attn_implementation: eager in the discriminator's backbone",
            got=attention,
            remedy="set it, or use ApproximateR1, which works with any",
        )
