"""Which questions of a data set are answered, and how."""

from __future__ import annotations

from dataclasses import dataclass

from rairl_lightning.data.demonstrations import Splits
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.types import Demonstration

ROWS = 256  # traces sampled at once
SPLITS = ("train", "selection", "test")


@dataclass(frozen=True)
class Sampling:
    """How the questions of a data set are answered.

    Attributes:
        split: train, selection or test; the questions that are reported.
        fit_split: train or selection; the questions that a calibration is fitted on and a pooling chosen on.
        samples: traces of each question, >= 1.
        temperature: of the samples, >= 0 (paper: 0.5); 0 takes the most probable token.
        max_new_tokens: longest completion in tokens, end of turn included.
        limit: most questions of each split, >= 1; null takes all.
    """

    split: str = "test"
    fit_split: str = "selection"
    samples: int = 16
    temperature: float = 0.5
    max_new_tokens: int = 824
    limit: int | None = None

    def __post_init__(self) -> None:
        check_number("samples", self.samples, at_least=1)
        check_number("temperature", self.temperature, at_least=0)
        check_number("max_new_tokens", self.max_new_tokens, at_least=1)
        if self.limit is not None:
            check_number("limit", self.limit, at_least=1)
        if self.split not in SPLITS:
            raise ConfigError("There is no such split.", expected=", ".join(SPLITS), got=self.split)
        if self.fit_split not in SPLITS[:2]:
            raise ConfigError(
                f"Nothing is fitted or chosen on the {self.fit_split} split.",
                expected=" or ".join(SPLITS[:2]),
                got=self.fit_split,
                remedy="leave sampling.fit_split at selection; sampling.split says what is reported",
            )

    @property
    def questions_at_once(self) -> int:
        """So many that memory holds their samples."""
        return max(1, ROWS // self.samples)

    def reported(self, splits: Splits) -> tuple[Demonstration, ...]:
        """The questions to report on.

        Raises:
            DataError: there are none.
        """
        questions = getattr(splits, self.split)[: self.limit]
        if not questions:
            raise DataError(f"The {self.split} split is empty.", expected="at least one question", got=0)
        return questions

    def fitted_on(self, splits: Splits) -> tuple[Demonstration, ...]:
        """The questions to fit and choose on.

        Raises:
            ConfigError: they are the test split, or the reported ones.
            DataError: there are none.
        """
        if not getattr(splits, self.fit_split):
            raise DataError(
                f"The {self.fit_split} split is empty, so nothing can be fitted or chosen on it.",
                expected="at least one question",
                got=0,
                remedy="take --calibration NoCalibration and no more than one pooling, or another --sampling.fit_split",
            )
        questions = splits.to_choose_on(self.fit_split)[: self.limit]
        if self.fit_split == self.split:
            raise ConfigError(
                "What is fitted on a split is not reported on it.",
                expected="a sampling.fit_split other than sampling.split",
                got=self.split,
                remedy="report on test, or fit on train",
            )
        return questions
