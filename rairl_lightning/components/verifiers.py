"""What pays a trace by looking at its answer: the reward that R-AIRL does without, for the baseline GRPO."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rairl_lightning.errors import ConfigError
from rairl_lightning.functional._checks import check_number
from rairl_lightning.text.answers import extract_answer
from rairl_lightning.text.chat import parse_completion
from rairl_lightning.text.graders import Exact, Grade, Grader
from rairl_lightning.types import Demonstration


class Verifier(ABC):
    """Pays a whole trace, by rule."""

    @abstractmethod
    def __call__(self, texts: Sequence[str], demonstrations: Sequence[Demonstration]) -> Tensor:
        """Reward of each trace.

        Args:
            texts: N completions, special tokens removed.
            demonstrations: N of the same prompts.

        Returns:
            ``[N]`` float32.
        """


@dataclass(frozen=True)
class AnswerAndFormat(Verifier):
    """``r_n = a · 1[answer_n is right] + f · 1[trace n is well formed]``; not in the paper.

    A trace without an answer, or with several that disagree, is not right, nor is one whose grade is unknown. Well
    formed is one think block, then one answer block, neither empty, and nothing around them.

    >>> texts = ["<think>1 + 1 = 2</think><answer>2</answer>", "<answer>2</answer>", "2"]
    >>> AnswerAndFormat()(texts, [Demonstration("1", "1 + 1?", "1 + 1 = 2", "2")] * 3)
    tensor([1.1000, 1.0000, 0.0000])
    """

    answer: float = 1.0
    """a >= 0, in units of reward."""

    format: float = 0.1
    """f >= 0, in units of reward; small, or form is learnt before content. Not both may be 0."""

    grader: Grader = field(default=Exact())
    """What is right; the data set's, where it has one of its own (``OptionChoice``, ``CountdownExpression``, …)."""

    def __post_init__(self) -> None:
        check_number("answer", self.answer, at_least=0)
        check_number("format", self.format, at_least=0)
        if not self.answer + self.format > 0:
            raise ConfigError(
                "The verifier pays nothing.",
                expected="answer + format > 0",
                got=f"answer={self.answer}, format={self.format}",
            )

    def __call__(self, texts: Sequence[str], demonstrations: Sequence[Demonstration]) -> Tensor:
        """``[N]`` in {0, f, a, a + f}."""
        pairs = zip(texts, demonstrations, strict=True)
        right_N = torch.tensor([self.grader(extract_answer(text), theirs) is Grade.RIGHT for text, theirs in pairs])
        formed_N = torch.tensor([parse_completion(text).well_formed for text in texts])
        return self.answer * right_N.float() + self.format * formed_N.float()
