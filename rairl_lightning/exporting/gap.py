"""How far a written model is from the one that was trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rairl_lightning.errors import ModelError

ROUNDING = 1e-5  # of float32, whatever the numbers


@dataclass(frozen=True)
class Gap:
    """Differences between two models on the same tokens.

    Attributes:
        what: of which numbers, with their unit.
        mean: of the absolute differences.
        largest: of them.
        spread: standard deviation of the numbers themselves, to compare with.
        places: how many numbers.
        texts: that they are of.
    """

    what: str
    mean: float
    largest: float
    spread: float
    places: int
    texts: int

    @classmethod
    def between(cls, what: str, before: Tensor, after: Tensor, texts: int) -> Gap:
        """Compare.

        Args:
            what: the numbers, in words.
            before: ``[M]`` of the trained model, M >= 1.
            after: ``[M]`` of the written one.
            texts: that they are of.

        >>> import torch
        >>> Gap.between("rewards", torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.0]), texts=1).mean
        0.25
        """
        apart = (before.double() - after.double().to(before.device)).abs()
        spread = float(before.double().std(unbiased=False))
        return cls(what, float(apart.mean()), float(apart.max()), spread, apart.numel(), texts)

    @property
    def sentence(self) -> str:
        """In words.

        >>> Gap("rewards", 0.25, 0.5, 1.0, 2, 1).sentence
        'rewards of 2 tokens in 1 texts: mean difference 0.25, largest 0.5 (their own standard deviation is 1)'
        """
        return (
            f"{self.what} of {self.places} tokens in {self.texts} texts: mean difference {self.mean:.2g}, largest "
            f"{self.largest:.2g} (their own standard deviation is {self.spread:.2g})"
        )

    def check(self, tolerance: float, *, merged: bool) -> None:
        """Refuse what is no longer the trained model.

        Args:
            tolerance: of the mean difference, as a share of the numbers' own standard deviation.
            merged: whether the adapter was added to the weights.

        Raises:
            ModelError: the mean difference is greater, or not a number.

        >>> Gap("rewards", 0.08, 0.5, 2.0, 2, 1).check(0.05, merged=True)
        >>> Gap("rewards", 0.08, 0.5, 0.1, 2, 1).check(0.05, merged=True)
        Traceback (most recent call last):
        rairl_lightning.errors.ModelError: What was written is not what was trained.
        ...
        """
        allowed = tolerance * self.spread + ROUNDING
        if self.mean <= allowed:
            return
        without = (
            "leave out --merged: the adapter alone stands on the base as it was in training; or " if merged else ""
        )
        raise ModelError(
            "What was written is not what was trained.",
            expected=f"a mean difference of at most {allowed:.2g}, {tolerance:g} of the standard deviation",
            got=self.sentence,
            remedy=f"{without}a greater --tolerance, or --force true, writes it all the same",
        )
