"""From the discriminator's logit to the reward the policy is paid."""

from torch import Tensor

from rairl_lightning.functional._checks import check_number


def logit_to_reward(logits_expert_is_high: Tensor, temperature: float = 1.0, clip: float = 5.0) -> Tensor:
    """The AIRL reward, tempered and clipped.

    ``r = clip(d / τ, -c, c)``, since ``log D - log(1 - D) = d`` (Fu et al. 2018, arXiv 1710.11248); the clip is
    the authors' (arXiv 2510.01857).

    Args:
        logits_expert_is_high: any shape, d.
        temperature: τ > 0.
        clip: c > 0.

    Returns:
        Rewards of the same shape, in [-c, c].

    Raises:
        ConfigError: τ or c is out of range.

    >>> import torch
    >>> logit_to_reward(torch.tensor([-30.0, 1.0, 4.0]), temperature=2.0)
    tensor([-5.0000,  0.5000,  2.0000])
    """
    check_number("temperature", temperature, above=0)
    check_number("clip", clip, above=0)
    return (logits_expert_is_high / temperature).clamp(-clip, clip)
