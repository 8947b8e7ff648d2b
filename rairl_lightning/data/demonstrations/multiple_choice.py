"""Multiple choice: questions with options, and experts who argue for one of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from rairl_lightning.data.demonstrations.base import demonstration_from
from rairl_lightning.data.demonstrations.folder import FolderSource
from rairl_lightning.data.demonstrations.left_out import LeftOut
from rairl_lightning.data.demonstrations.questions import question_from
from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.errors import DataError
from rairl_lightning.text.graders import Grader, OptionChoice
from rairl_lightning.text.statements import argued
from rairl_lightning.types import Demonstration


@dataclass(frozen=True)
class MultipleChoice(FolderSource):
    """Multiple choice from a folder: MedQA, MedMCQA, ARC, or your own.

    A row has ``question``, ``options`` (a list, letters with texts, or lines ``A. text``), ``answer`` (letter or text)
    or ``answer_index`` and, for training, ``reasoning``; ``id`` and ``category`` if you like. The options are written
    into the prompt, a line ``A. text`` each, and the answer becomes the letter. What the reasoning states as its answer
    at its end is cut off, since the answer block says it; a demonstration that concludes with another option than the
    right one, or says nothing else, is left out, counted and reported.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.MultipleChoice, init_args: {path: my_folder}}
    """

    grader: Grader = field(default=OptionChoice(), kw_only=True)

    REASONING: ClassVar[tuple[str, ...]] = ("reasoning",)
    """Fields that may hold the reasoning."""

    IDS: ClassVar[tuple[str, ...]] = ("id", "question_id")
    """Fields that may hold the id."""

    def demonstration(self, record: Record, split: str, row: int) -> Demonstration | LeftOut:
        """See the class."""
        question = question_from(record)
        if not question.options or question.answer is None:
            missing = "answer" if question.options else "options"
            raise DataError(f"{record.where} has no field {missing!r}.", expected=missing, got=", ".join(record.values))
        reasoning = ""
        if split == "train" or any(map(record.has, self.REASONING)):
            name = next(filter(record.has, self.REASONING), self.REASONING[0])
            reasoning, stated = argued(record.text(name), question.options)
            if stated not in (None, question.answer):
                return LeftOut(record.where, "the reasoning concludes with another option than the answer")
            if not reasoning:
                return LeftOut(record.where, "the reasoning is only a statement of the answer")
        key = next(filter(record.has, self.IDS), None)
        return demonstration_from(
            record,
            id=record.text(key) if key else f"{split}-{row}",
            prompt=question.prompt,
            reasoning=reasoning,
            answer=question.answer,
            meta={"category": record.text("category")} if record.has("category") else {},
            options=question.options,
        )


@dataclass(frozen=True)
class MMLUPro(MultipleChoice):
    """MMLU-Pro: up to ten options in 14 categories (Wang et al. 2024, arXiv 2406.01574).

    ``meta["category"]`` keeps the category. On the hub only the 70 validation questions have reasoning, by its authors,
    and are the training split; a folder's ``train`` holds demonstrations of yours.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.MMLUPro, init_args: {path: MMLU_PRO_FOLDER}}
    """

    path: str = "TIGER-Lab/MMLU-Pro"

    HUB_SPLITS: ClassVar[Mapping[str, str]] = MappingProxyType({"train": "validation", "test": "test"})
    REASONING: ClassVar[tuple[str, ...]] = ("reasoning", "cot_content")
    IDS: ClassVar[tuple[str, ...]] = ("question_id", "id")


@dataclass(frozen=True)
class MedReason(MultipleChoice):
    """MedReason: medical questions, reasoned along a knowledge graph (Wu et al. 2025, arXiv 2504.00993).

    Tested on MedQA, as in the paper: a folder's ``test`` or ``medqa_test``. The hub has no test split.

    .. code-block:: yaml

        source: {class_path: rairl_lightning.data.demonstrations.MedReason, init_args: {path: MEDREASON_FOLDER}}
    """

    path: str = "UCSC-VLAA/MedReason"

    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {"train": ("train",), "test": ("test", "medqa_test")}
    )
    REQUIRED: ClassVar[tuple[str, ...]] = ("train",)
    HUB_SPLITS: ClassVar[Mapping[str, str]] = MappingProxyType({"train": "train"})

    def demonstration(self, record: Record, split: str, row: int) -> Demonstration | LeftOut:
        """See the class."""
        answer = record.values.get("answer")
        if isinstance(answer, str):  # the hub's answers explain themselves
            record = Record(record.where, {**record.values, "answer": answer.partition("Explanation:")[0]})
        return super().demonstration(record, split, row)
