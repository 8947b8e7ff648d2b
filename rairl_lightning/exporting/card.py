"""The card of an export: what it is, how it is read, on what it was trained, what was measured, what it cannot do."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from rairl_lightning import __version__
from rairl_lightning.components.description import described
from rairl_lightning.evaluation.artefact import Artefact
from rairl_lightning.evaluation.run_folder import RERANKING, config_of
from rairl_lightning.evaluation.settings import flattened
from rairl_lightning.evaluation.summary import per_cent
from rairl_lightning.exporting import said
from rairl_lightning.exporting.players import Exported
from rairl_lightning.reporting.files import Notes, Row, read_mapping, read_rows
from rairl_lightning.reporting.sections import Figures, Sources, figures_of
from rairl_lightning.reporting.tables import Table
from rairl_lightning.text.visible import visible

FORMAT = 1
FOLDERS = re.compile(r"(?<![\w.:/~])(?:~|\.{1,2})?/(?:[^/\s'\",\]]+/)*")
SHOWN = 60  # characters of a calibration's parameters; a curve has hundreds, which rairl_export.json holds


@dataclass(frozen=True)
class Measured:
    """What the files of a run, and of the commands, say of it.

    Attributes:
        figures: as a report shows them.
        calibration: ``method``, ``parameters``, ``before`` and ``after``, of ``rairl rerank``; or ``before`` alone,
            of an evaluation during the run; empty without either.
        calibrated: rows of its table: probability, calibration error, Brier score.
        data: settings of the data source, a path cut to its last part.
        algorithm: settings that matter most, likewise.
        notes: what could not be read.
    """

    figures: Figures
    calibration: Row
    calibrated: list[list[str]]
    data: Mapping[str, str]
    algorithm: Mapping[str, str]
    notes: list[str]


SETTINGS = ("model", "model.rounds", "model.group_size", "model.warmup.updates", "model.sft.epochs", "data.batch_size")


def measured(sources: Sources) -> Measured:
    """Read everything that a card says of results; no model is loaded."""
    notes = Notes()
    figures = figures_of(sources, notes)
    file = config_of(sources.run)
    lines = {key: _public(value) for key, value in flattened({} if file is None else read_mapping(file, notes)).items()}
    data = {key.removeprefix("data."): value for key, value in lines.items() if key.startswith("data.source")}
    algorithm = {key: lines[key] for key in SETTINGS if key in lines}
    calibration = _calibration(sources, notes)
    calibrated = notes.attempt("the calibration", lambda: list(_calibrated(calibration))) or []
    return Measured(figures, calibration, calibrated, data, algorithm, notes.lines)


def record(artefact: Artefact, exported: Exported, found: Measured, files: list[str]) -> Row:
    """What a program needs to read the weights, as plain values."""
    reader = exported.reader
    return {
        "format": FORMAT,
        "version": __version__,
        "what": exported.what,
        "base": exported.base.public_name,
        "adapter": exported.adapter,
        "outputs": list(exported.labels),
        "reader": None if reader is None else described(reader),
        "calibration": {key: found.calibration[key] for key in ("method", "parameters") if key in found.calibration},
        "system_prompt": exported.system_prompt,
        "eos_id": exported.eos_id,
        "codec": exported.codec,
        "base_fingerprint": artefact.identity.get("base"),
        "commit": artefact.identity.get("commit"),
        "trained_by_version": artefact.identity.get("version"),
        "questions_trained_on": len(artefact.trained_on) or None,
        "gap": asdict(exported.gap),
        "files": sorted(files),
    }


def card(artefact: Artefact, exported: Exported, found: Measured, title: str) -> str:
    """The page, in Markdown with the hub's metadata.

    Args:
        artefact: that was exported.
        exported: what of it.
        found: what was measured.
        title: its name.
    """
    base = exported.base
    text = _environment().get_template("card.md.j2").render(
        title=title,
        one=exported,
        base=base.public_name,
        on_hub=not base.is_local,
        local=base.is_local and exported.adapter,
        precision=f"{base.dtype}, {base.quantisation} in training" if base.quantisation else base.dtype,
        reading=_reading(exported),
        identity=artefact.identity,
        template=hashlib.sha256(_template(artefact).encode()).hexdigest()[:16],
        questions=len(artefact.trained_on),
        found=found,
        version=__version__,
        tables=list(_tables(found)),
        missing=list(_missing(exported, found)),
        calibrated=found.calibrated,
        indented=textwrap.indent(exported.system_prompt or "", "    "),
    )  # fmt: skip
    return visible(text, keep="\n\t")


def markdown(table: Table) -> str:
    r"""A table in Markdown; bars in its cells would end them.

    >>> print(markdown(Table("", ["by", "right"], [["a|b", "1"]])))
    | by | right |
    |---|---|
    | a\|b | 1 |
    """
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    lines[1] = "|" + "---|" * len(table.columns)
    return "\n".join(lines)


def _reading(exported: Exported) -> list[tuple[str, str]]:
    """The chain from outputs to the trace's number, in words."""
    reader = exported.reader
    if reader is None:
        return []
    parts = (
        ("Read", said.grid(reader.granularity)),
        ("Paid", said.pay(reader.critic)),
        ("Reward", said.reward(reader.reward)),
    )
    filled = ("Tokens", "each token of the completion has the reward of the next place at or behind it")
    trace = ("Trace", said.pooled(reader.pooling).words)
    return [*((name, part.words) for name, part in parts), filled, trace]


def _tables(found: Measured) -> Iterator[tuple[str, str]]:
    figures = found.figures
    chosen = [] if figures.reranking is None else [figures.reranking[1]]
    for table in (*figures.results, *chosen, *figures.localisation, *figures.leaks):
        where = f" ({figures.reranking_from})" if table in chosen else ""
        yield f"{table.title}{where}", markdown(table)


def _missing(exported: Exported, found: Measured) -> Iterator[str]:
    figures = found.figures
    wanted: list[tuple[object, str]] = [
        (found.data, "the training data: the run has no config.yaml"),
        (figures.results, "results on the test split (callback FinalReport)"),
    ]
    if exported.reader is not None:
        wanted += [
            (figures.reranking, "choosing among answers (`rairl rerank`)"),
            (figures.localisation, "finding the first error (`rairl localise`)"),
            (found.calibrated, "calibration (`rairl rerank --calibration Temperature`)"),
            (figures.leaks, "surface features that give the expert away (callback LeakProbes)"),
        ]
    yield from (name for there, name in wanted if not there)
    yield from found.notes


def _calibration(sources: Sources, notes: Notes) -> Row:
    reranked = read_mapping(sources.rerank / "summary.json", notes) if sources.rerank else {}
    if isinstance(reranked.get("calibration"), dict):
        return reranked["calibration"]
    *_, last = [{}, *read_rows(sources.run / RERANKING, notes)]
    return {"before": last["reliability"]} if isinstance(last.get("reliability"), dict) else {}


def _calibrated(calibration: Row) -> Iterator[list[str]]:
    """Errors by name, per cent."""
    fitted = ", ".join(f"{name} {value}" for name, value in (calibration.get("parameters") or {}).items())
    after = f"{calibration.get('method')}, {fitted}" if 0 < len(fitted) <= SHOWN else calibration.get("method")
    names = {"before": "σ(reward of the trace)", "after": str(after)}
    for when, name in names.items():
        errors = calibration.get(when) or {}
        if "ece" in errors and "brier" in errors:
            yield [name, per_cent(errors["ece"]), per_cent(errors["brier"])]


def _template(artefact: Artefact) -> str:
    return artefact.spec.load_codec().chat_template or ""


def _public(value: str) -> str:
    """The folders of this machine are nobody's business: of a path its last part.

    >>> _public("['/home/me/a.jsonl', '../b.jsonl', 'owner/name', 'https://host/c']")
    "['a.jsonl', 'b.jsonl', 'owner/name', 'https://host/c']"
    """
    return FOLDERS.sub("", value)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("rairl_lightning.exporting"),
        autoescape=False,  # noqa: S701 - Markdown; texts of files go into code blocks and tables
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
