"""GSM8K: grade-school word problems with human solutions (Cobbe et al. 2021, arXiv 2110.14168)."""

import re
from dataclasses import dataclass
from typing import ClassVar

from rairl_lightning.data.demonstrations.base import demonstration_from
from rairl_lightning.data.demonstrations.folder import FolderSource
from rairl_lightning.data.demonstrations.questions import final_line
from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.errors import DataError
from rairl_lightning.types import Demonstration

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")


@dataclass(frozen=True)
class GSM8K(FolderSource):
    """GSM8K as published: one step a line, calculator marks removed, commas removed from the answer.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.GSM8K, init_args: {path: openai/gsm8k}}
    """

    path: str = "openai/gsm8k"

    CONFIGURATION: ClassVar[str] = "main"

    def demonstration(self, record: Record, split: str, row: int) -> Demonstration:
        """See the class."""
        return _demonstration(record, f"gsm8k-{split}-{row}")


def _demonstration(record: Record, id: str) -> Demonstration:
    question, solution = record.text("question"), record.text("answer")
    *lines, last = solution.splitlines()
    final = final_line(last)
    if final is None:
        raise DataError(
            f"{record.where} has no final answer.",
            expected="a last line '#### number'",
            got=repr(last[:80]),
            remedy="fix or remove the row",
        )
    steps = [_CALCULATOR_MARK.sub("", line).strip() for line in lines]
    reasoning = "\n".join(step for step in steps if step)
    if not reasoning:
        raise DataError(f"{record.where} has no reasoning.", expected="steps before the last line", got=repr(last[:80]))
    return demonstration_from(record, id=id, prompt=question, reasoning=reasoning, answer=final)
