"""The page: what was read and chosen, through the templates, with everything escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rairl_lightning import __version__
from rairl_lightning.evaluation import run_folder
from rairl_lightning.evaluation.token_rows import colour_scale
from rairl_lightning.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from rairl_lightning.reporting.files import Notes, Row, read_rows
from rairl_lightning.reporting.pairs import choose_pairs, is_found
from rairl_lightning.reporting.sections import Figures, Sources, figures_of
from rairl_lightning.reporting.tokens import Marked, marked, pieces
from rairl_lightning.reporting.traces import KINDS, Choice, Shown, choose, is_right
from rairl_lightning.text.visible import visible

GENERATOR = 'name="generator" content="rairl report'
FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}


@dataclass(frozen=True)
class Panel:
    """One trace on the page: who wrote it, what is known of it, and its tokens."""

    title: str
    about: str
    text: Marked | str


@dataclass(frozen=True)
class Card:
    """Traces side by side, under their question."""

    title: str
    prompt: str
    panels: list[Panel]


def render(sources: Sources, each: int) -> str:
    """The whole page.

    Args:
        sources: folders to read.
        each: traces of a kind, and pairs, to show, >= 1.
    """
    notes = Notes()
    figures = figures_of(sources, notes)
    choice = _chosen(sources, each, notes)
    pairs, pairs_seen = choose_pairs(_pair_rows(sources, notes), each)
    scale = colour_scale(_rewards(choice, pairs))
    groups = [(title, _cards(choice, kind, scale, notes)) for kind, title in KINDS.items()]
    absent = missing(figures, sources)
    return _environment().get_template("page.html.j2").render(
        run=sources.run.resolve().name,
        against=sources.against.resolve().name if sources.against else None,
        version=__version__,
        figures=figures,
        tiles=list(_tiles(figures)),
        groups=[(title, cards) for title, cards in groups if cards],
        choice=choice,
        pairs=[card for row in pairs if (card := _pair(row, scale, notes))],
        pairs_seen=pairs_seen,
        scale=scale,
        notes=[*absent, *notes.lines],
        style=_asset("page.css"),
        script=_asset("page.js"),
        frame=FRAME,
    )  # fmt: skip


def missing(figures: Figures, sources: Sources) -> Iterator[str]:
    """A sentence for every part that the run has no file for, with what would write it."""
    run = sources.run
    wanted = (
        (figures.config, "No config.yaml: the configuration is not shown."),
        (figures.main, "No TensorBoard events: there are no curves (trainer.logger: TensorBoardLogger)."),
        (figures.summary, "No summary.json: results on the test split are missing (callback FinalReport)."),
        (figures.health, "No health.json: the run was not watched (callback Health)."),
        ((run / run_folder.LEAKS).is_file(), "No leaks.json: surface leaks were not looked for (callback LeakProbes)."),
        (figures.reranking, "No reranking (callback Reranking, or --rerank FOLDER of `rairl rerank`)."),
        (figures.reliability, "No reliability (callback Reranking, or --rerank FOLDER of `rairl rerank`)."),
        (figures.localisation, "No localisation (callback Localisation, or --localise FOLDER of `rairl localise`)."),
        (
            (run / run_folder.TOKEN_REWARDS).is_file() or sources.scores,
            "No token rewards: no trace is shown (callback TraceLogger, or --scores FOLDER of `rairl score --tokens "
            "true`).",
        ),
    )
    yield from (sentence for there, sentence in wanted if not there)


def _chosen(sources: Sources, each: int, notes: Notes) -> Choice:
    path = sources.run / run_folder.TOKEN_REWARDS
    policy = (row for row in read_rows(path, notes) if row.get("source") != "expert")
    scored = read_rows(sources.scores / "scores.jsonl", notes) if sources.scores else iter(())
    experts = (row for row in read_rows(path, notes) if row.get("source") == "expert")
    choose_from = chain(policy, scored)
    return notes.attempt("the traces", lambda: choose(choose_from, experts, each)) or Choice()


def _pair_rows(sources: Sources, notes: Notes) -> Iterator[Row]:
    own = sources.run / run_folder.LOCALISATION
    if own.is_file():
        yield from read_rows(own, notes)
    elif sources.localise:
        yield from read_rows(sources.localise / "corrupted.jsonl", notes)


def _rewards(choice: Choice, pairs: Sequence[Row]) -> list[float]:
    rows = [row for one in choice.shown for row in (one.policy, one.expert) if row] + list(pairs)
    lists = [row["tokens"].get("reward") or () for row in rows if isinstance(row.get("tokens"), dict)]
    return [float(value) for values in lists for value in values if isinstance(value, int | float)]


def _cards(choice: Choice, kind: str, scale: float, notes: Notes) -> list[Card]:
    shown = [one for one in choice.shown if one.kind == kind]
    cards = (notes.attempt("a trace", lambda one=one: _card(one, scale)) for one in shown)  # type: ignore[misc]
    return [card for card in cards if card is not None]


def _card(shown: Shown, scale: float) -> Card:
    row, expert = shown.policy, shown.expert
    judged = {True: "right", False: "wrong", None: "not graded"}[is_right(row)]
    where = f" · round {row['round']}" if "round" in row else ""
    panels = [Panel("Policy", f"reward {row['reward']:+.3f} · {judged}{where}", _text(row, scale))]
    if expert is not None:
        reward = expert.get("reward")
        about = "no reward" if reward is None else f"reward {reward:+.3f}"
        panels.append(Panel("Expert", about, _text(expert, scale)))
    title = f"{row['reward']:+.3f} · {judged} · {row.get('id', 'no id')}"
    return Card(title, str(row.get("prompt", "")), panels)


def _text(row: Row, scale: float) -> Marked:
    return marked(str(row["completion"]), row["tokens"], scale)


def _pair(row: Row, scale: float, notes: Notes) -> Card | None:
    return notes.attempt("a perturbed pair", lambda: _perturbed(row, scale))


def _perturbed(row: Row, scale: float) -> Card:
    text, predicted = str(row["completion"]), row["predicted"]
    marks = {"t": row["changed"], "p": predicted.get("reward"), "q": predicted.get("logprob_drop")}
    tokens = row.get("tokens") or pieces(text, list(marks.values()))
    found = "found" if is_found(row) else "missed"
    panels = [Panel("Perturbed", f"{row['kind']} · {found}", marked(text, tokens, scale, marks))]
    if isinstance(row.get("clean"), str):
        panels.append(Panel("Expert", "as it was demonstrated", row["clean"]))
    return Card(f"{found} · {row['kind']} · {row.get('id', 'no id')}", str(row.get("prompt", "")), panels)


def _tiles(figures: Figures) -> Iterator[tuple[str, str]]:
    """The figures to see first."""
    if figures.health:
        yield "Verdict", str(figures.health["outcome"])
        yield "Rounds", str(figures.health["rounds"])
    for table in figures.results[:1]:
        for row in table.rows:
            yield f"{row[0]}, pass@1 {table.columns[-1]}", row[-1]
    area = figures.summary.get("auroc")
    if isinstance(area, list) and area and isinstance(area[0], float):
        yield "AUROC of the reward", f"{area[0]:.3f}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rairl_lightning.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
    )
    environment.tests["marked"] = lambda value: isinstance(value, Marked)
    return environment


def _safe(value: Any) -> Any:
    """Write out control characters of anybody's text before it is escaped."""
    return visible(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> Markup:
    """A file of ours, which goes into the page as it is."""
    return Markup((files("rairl_lightning.reporting") / "templates" / name).read_text(encoding="utf-8"))  # noqa: S704
