"""How many updates the discriminator takes in a round."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number


class UpdateBudget(ABC):
    """How many updates the discriminator takes in a round. It keeps no state, so resuming needs none."""

    @property
    @abstractmethod
    def needs_auroc(self) -> bool:
        """Whether somebody must measure the held-out AUROC."""

    @property
    @abstractmethod
    def expected(self) -> int:
        """Updates of a round in the warm-up, which must get on."""

    @property
    @abstractmethod
    def most(self) -> int:
        """Most updates of a round: the learning-rate schedule spans them, or it would end before the run."""

    @abstractmethod
    def updates(self, heldout_auroc: float | None) -> int:
        """Updates of this round, >= 0.

        Args:
            heldout_auroc: the discriminator's last one, in [0, 1]; ``None`` before the first measurement.
        """


@dataclass(frozen=True)
class Fixed(UpdateBudget):
    """The same number every round."""

    k: int = 3
    """>= 1 (the authors': 3)."""

    def __post_init__(self) -> None:
        check_number("k", self.k, at_least=1)

    @property
    def needs_auroc(self) -> bool:
        """Never."""
        return False

    @property
    def expected(self) -> int:
        """``k``."""
        return self.k

    @property
    def most(self) -> int:
        """``k``."""
        return self.k

    def updates(self, heldout_auroc: float | None) -> int:
        """``k``."""
        return self.k


@dataclass(frozen=True)
class AurocBand(UpdateBudget):
    """Hold the held-out AUROC in a band: all updates below it, fewest above, and evenly fewer in between.

    >>> band = AurocBand(low=0.6, high=0.9, minimum=0, maximum=6)
    >>> [band.updates(auroc) for auroc in (None, 0.5, 0.6, 0.75, 0.9, 1.0)]
    [6, 6, 6, 3, 0, 0]
    """

    low: float = 0.65
    """AUROC at and below which the discriminator takes ``maximum`` updates, in [0.5, high)."""

    high: float = 0.9
    """AUROC at and above which it takes ``minimum`` updates, in (low, 1]."""

    minimum: int = 1
    """Fewest updates a round, >= 0; 0 lets a discriminator that is far ahead pause."""

    maximum: int = 6
    """Most updates a round, > minimum; also taken while the AUROC is unknown."""

    def __post_init__(self) -> None:
        if not (0.5 <= self.low < self.high <= 1 and 0 <= self.minimum < self.maximum):
            raise ConfigError(
                "The AUROC band is out of range.",
                expected="0.5 <= low < high <= 1 and 0 <= minimum < maximum",
                got=f"low={self.low}, high={self.high}, minimum={self.minimum}, maximum={self.maximum}",
            )

    @property
    def needs_auroc(self) -> bool:
        """Always."""
        return True

    @property
    def expected(self) -> int:
        """The middle, rounded up."""
        return (self.minimum + self.maximum + 1) // 2

    @property
    def most(self) -> int:
        """``maximum``."""
        return self.maximum

    def updates(self, heldout_auroc: float | None) -> int:
        """``maximum`` to ``minimum`` as the AUROC goes from ``low`` to ``high``."""
        if heldout_auroc is None:
            return self.maximum
        share = min(1.0, max(0.0, (heldout_auroc - self.low) / (self.high - self.low)))
        return round(self.maximum - share * (self.maximum - self.minimum))
