"""Files of sampled traces, of ours or anybody's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from rairl_lightning.data.demonstrations.left_out import LeftOut, kept
from rairl_lightning.data.demonstrations.questions import PROMPTS, question_from
from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.data.traces.base import SampledQuestion, TraceSource
from rairl_lightning.data.traces.files import read_where, text_meta
from rairl_lightning.data.traces.layouts import Layout, Tagged
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional.ranking import answer_classes
from rairl_lightning.text.graders import Grade, Grader, OptionChoice
from rairl_lightning.types import Demonstration

SEVERAL = ("completions", "outputs", "responses", "samples")
"""Fields that may hold the N texts of a question."""

SINGLE = ("completion", "output", "response", "text")
"""Fields that may hold one text."""

IDS = ("question_id", "id")
"""Fields that may name the question."""

OF_A_TEXT = ("correct", "finished")
"""Fields that say something of one text; of a row with N texts, a list of N."""

_TRUTHS = {**dict.fromkeys(("true", "1", "1.0"), True), **dict.fromkeys(("false", "0", "0.0"), False)}


@dataclass
class _Group:
    """The rows of one question, as they are found."""

    demonstration: Demonstration
    has_key: bool
    where: str
    texts: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class TraceFile(TraceSource):
    """A row a question with its N texts, or a row a text; .jsonl, .jsonl.gz, .parquet or .csv.

    A question is ``prompt`` (``question``, ``problem``, ``messages``), ``answer`` (or ``answer_index``) and, if there
    are some, ``options`` and ``category``; its texts are ``completions`` (``outputs``, ``responses``, ``samples``). A
    row of one text has it in ``completion`` (``output``, ``response``, ``text``); rows belong together that have the
    same ``question_id``, else the same question, else, where a file of questions is joined, the same ``id``. They need
    not be adjacent. Answers are graded here; only where no right answer is known is the field ``correct`` believed. A
    field ``finished`` says whether the model ended its turn itself (true) or was cut (false).

    .. code-block:: yaml

        traces:
          class_path: rairl_lightning.data.traces.TraceFile
          init_args:
            path: mmlu_pro/policy_samples.jsonl.gz
            question_files: [mmlu_pro/train.jsonl.gz]
            where: {model: Phi-3-mini-4k-instruct}

    Attributes:
        path: the file of traces.
        question_files: files of questions, joined by ``question_id`` or ``id``, if the traces' rows lack them; rows of
            other questions are left out, counted and reported.
        where: keep only rows with these values, by field.
        limit: keep this many questions, at least 1; None keeps all.
        meta: names of further fields to keep for reports, or for the grader.
        layout: how a text is laid out before a reward reads it.
        grader: how answers are graded; the default reads options where a question has some.
    """

    path: str
    question_files: tuple[str, ...] = ()
    where: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    meta: tuple[str, ...] = ()
    layout: Layout = field(default=Tagged())
    grader: Grader = field(default=OptionChoice())

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError("limit is too small.", expected="at least 1, or null for all", got=self.limit)

    def questions(self) -> Iterator[SampledQuestion]:
        """Read everything, then grade one question after the other, in the order of their first row.

        Raises:
            DataError: a row that cannot be used, rows of one question that differ, or no row whose question is known.
        """
        return map(self._graded, islice(self._groups(), self.limit))

    def _groups(self) -> Iterator[_Group]:
        groups: dict[str, _Group] = {}
        for record, source in self._asked():
            key, demonstration, has_key = self._question(source, record)
            group = groups.setdefault(key, _Group(demonstration, has_key, record.where))
            _check_same(group, demonstration, record)
            rows = _rows(record)
            group.texts += [text for text, _ in rows]
            group.records += [row for _, row in rows]
        yield from groups.values()

    def _asked(self) -> list[tuple[Record, Record]]:
        """Each row of traces, with the row that says what was asked."""
        records = read_where(self.path, self.where)
        if not self.question_files:
            return [(record, record) for record in records]
        known: dict[str, Record] = {}
        for path in self.question_files:
            for question in read_where(path, {}):
                known.setdefault(_id(question), question)
        return kept((_with_question(record, known) for record in records), self.path)

    def _question(self, source: Record, record: Record) -> tuple[str, Demonstration, bool]:
        """A question with what tells it from others, and whether its right answer is known."""
        if not any(map(source.has, PROMPTS)):
            raise DataError(
                f"{source.where} does not say what was asked.",
                expected=" or ".join(PROMPTS),
                got=f"fields {', '.join(source.values)}",
                remedy="name the file of the questions in question_files; they are joined by question_id or id",
            )
        fields = question_from(source)
        key = _id(record) if self.question_files or record.has("question_id") else fields.prompt
        if fields.answer is None and "correct" not in record.values:
            source.text("answer")  # raises, with the nearest name
        demonstration = Demonstration(
            id=_id(record) if any(map(record.has, IDS)) else record.where.rpartition(":")[2],
            prompt=fields.prompt,
            reasoning="",
            answer=fields.answer or "",
            meta=text_meta(source, ("category", *self.meta)),
            options=fields.options,
        )
        return key, demonstration, fields.answer is not None

    def _graded(self, group: _Group) -> SampledQuestion:
        question = group.demonstration
        laid_out = [self.layout(text, question.options) for text in group.texts]
        answers = [answer for _, answer in laid_out]
        if group.has_key:
            grades = [self.grader(answer, question) for answer in answers]
        else:
            grades = [_believed(record, answer) for record, answer in zip(group.records, answers, strict=True)]
        return SampledQuestion(
            question=question,
            completions=tuple(completion for completion, _ in laid_out),
            answers=tuple(answers),
            grades=tuple(grades),
            classes=tuple(answer_classes(answers, partial(self.grader.same, question=question))),
            records=tuple(record.values for record in group.records),
            rows=tuple(int(record.where.rpartition(":")[2]) for record in group.records),
            finished=tuple(
                _truth(record, "finished") if completion == text else None  # what is laid out anew ends anew
                for record, text, (completion, _) in zip(group.records, group.texts, laid_out, strict=True)
            ),
        )


def _id(record: Record) -> str:
    return record.text(next(filter(record.has, IDS), IDS[0]))


def _with_question(record: Record, known: dict[str, Record]) -> tuple[Record, Record] | LeftOut:
    question = known.get(_id(record))
    return (record, question) if question else LeftOut(record.where, "its question is in no question file")


def _check_same(group: _Group, demonstration: Demonstration, record: Record) -> None:
    first = group.demonstration
    if (first.prompt, first.answer, first.options) != (
        demonstration.prompt,
        demonstration.answer,
        demonstration.options,
    ):
        raise DataError(
            f"{group.where} and {record.where} are of one question, which they give differently.",
            expected=f"the answer {first.answer!r} and the prompt {first.prompt[:60]!r}",
            got=f"{demonstration.answer!r} and {demonstration.prompt[:60]!r}",
            remedy="give different questions different ids",
        )


def _rows(record: Record) -> list[tuple[str, Record]]:
    """The texts of a row, each with a row of its own; an empty text is a trace that says nothing, not an error."""
    name = next((name for name in SEVERAL if record.has(name)), None)
    if name is None:
        there = [name for name in SINGLE if name in record.values]
        single = next((name for name in there if record.values[name] is not None), there[0] if there else None)
        return [(_text(record, record.values[single] if single else record.text(*SEVERAL, *SINGLE)), record)]
    texts, values = record.sequence(name), {key: value for key, value in record.values.items() if key != name}
    lists = {key: own for key in OF_A_TEXT if (own := _list(record, key, len(texts))) is not None}
    return [
        (
            _text(record, text),
            Record(record.where, {**values, "completion": text, **{key: own[row] for key, own in lists.items()}}),
        )
        for row, text in enumerate(texts)
    ]


def _list(record: Record, name: str, count: int) -> list[object] | None:
    """A row's list of marks, one a text; one of another length is left where it is, an error if it is read."""
    given = record.values.get(name)
    if not isinstance(given, list) and not (isinstance(given, str) and given.lstrip().startswith("[")):
        return None
    marks = record.sequence(name)
    return marks if len(marks) == count else None


def _text(record: Record, text: object) -> str:
    if not isinstance(text, str):
        raise DataError(f"{record.where} has a trace that is no text.", expected="text", got=repr(text)[:80])
    return text


def _believed(record: Record, answer: str | None) -> Grade:
    """The grade that a row gives itself."""
    correct = _truth(record, "correct")
    if correct is not None:
        return Grade.RIGHT if correct else Grade.WRONG
    return Grade.UNANSWERED if answer is None else Grade.UNKNOWN


def _truth(record: Record, name: str) -> bool | None:
    """A field that is true or false, as a number or a table's text too; None where it is not there."""
    if not record.has(name):
        return None
    value = record.values[name]
    truth = _TRUTHS.get(value.strip().casefold() if isinstance(value, str) else str(value).casefold())
    if truth is None:
        raise DataError(
            f"{record.where} has no usable {name!r}.",
            expected="true, false, 1, 0 or nothing; of a row with N texts also a list of N of them",
            got=repr(value)[:80],
        )
    return truth
