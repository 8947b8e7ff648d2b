"""From the ledger to ``results/ablation.json`` and to the tables of the README."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation_groups import Figure, Group, group_runs, results
from ablation_ledger import Ledger, without_nan, write_whole
from ablation_wanted import WANTED
from markdown_table import markdown

from rairl_lightning.errors import DataError

BEGIN, END = "<!-- ablation:begin -->", "<!-- ablation:end -->"

NOTE = """\
Per cent on the test split; ± is the longer side of the 95 % interval: bootstrap over questions and Student's t over
seeds, in quadrature (`over_seeds` in [`ablation_groups.py`](ablation_groups.py)). Both ends, and each seed, are in
[`results/ablation.json`](results/ablation.json)."""


def per_cent(figure: Figure) -> str:
    """As ``61.2 ± 5.9``."""
    return f"{100 * figure.mean:.1f} ± {100 * figure.half:.1f}"


def runs(figure: Figure) -> str:
    """How many of the seeds, for a metric that is 0 or 1."""
    return f"{figure.mean * figure.seeds:.0f} of {figure.seeds}"


def count(figure: Figure) -> str:
    """A mean number."""
    return f"{figure.mean:.1f}".removesuffix(".0")


def minutes(figure: Figure) -> str:
    """Seconds as minutes."""
    return f"{figure.mean / 60:.1f}"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        title: its heading.
        metric: what it shows.
        show: how.
    """

    title: str
    metric: str
    show: Callable[[Figure], str] = per_cent

    def cell(self, group: Group) -> str:
        """A dash where the group has no such figure, or it is not defined."""
        figure = group.figures.get(self.metric)
        return "–" if figure is None or math.isnan(figure.mean) else self.show(figure)


@dataclass(frozen=True)
class Section:
    """A table.

    Args:
        title: what stands above it.
        stages: whose groups are its rows.
        columns: its columns, after those that name the group.
    """

    title: str
    stages: tuple[str, ...]
    columns: tuple[Column, ...]


SECTIONS = (
    Section(
        "Discriminators: which of 16 samples",
        ("discriminator",),
        (
            Column("AUROC", "auroc"),
            Column("AUROC within prompt", "auroc_within_prompt"),
            Column("by mean reward", "best_of_16/reward"),
            Column("by least reward", "best_of_16/reward_min"),
            Column("weighted vote", "best_of_16/vote"),
            Column("majority", "best_of_16/majority"),
            Column("log-probability", "best_of_16/logprob"),
            Column("random", "best_of_16/random"),
            Column("oracle", "best_of_16/oracle"),
        ),
    ),
    Section(
        "Discriminators: Hit@1 on kinds of perturbation not trained on",
        ("discriminator",),
        tuple(
            Column(f"{level}, {title}", f"{metric}/{level}")
            for level in ("token", "interval", "step")
            for title, metric in (("reward", "hit@1"), ("log-probability", "hit@1_logprob"), ("chance", "chance"))
        ),
    ),
    Section(
        "Policies: pass@1",
        ("start", "policy"),
        (
            Column("greedy", "pass@1/greedy"),
            Column("sampled", "pass@1/sampled"),
            Column("gain, sampled", "gain/sampled"),
            Column("collapsed", "collapsed", runs),
            Column("restorations", "restorations", count),
            Column("rounds", "rounds", count),
            Column("minutes", "seconds", minutes),
        ),
    ),
)


def make_table(ledger: Ledger, benchmarks: Path, write: bool) -> None:
    """Write the results file and the README's part between its marks, and print the tables.

    Args:
        ledger: of the runs.
        benchmarks: folder of the README; results go to ``results/`` in it.
        write: only print otherwise.

    Raises:
        DataError: there is no run, or the README has not exactly one pair of marks.
    """
    groups = group_runs(ledger)
    if not groups:
        raise DataError("There is nothing to make a table of.", expected="runs", got=ledger.path)
    tables = render(groups)
    if write:
        readme = benchmarks / "README.md"
        text = between_marks(readme.read_text(encoding="utf-8"), tables)
        rows = json.dumps(without_nan(results(groups)), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(benchmarks / "results" / "ablation.json", rows + "\n")
        write_whole(readme, text)
    print(tables)  # last: whoever reads only the head of it closes the pipe


def render(groups: Sequence[Group]) -> str:
    """All tables in Markdown; a stage without a run has none."""
    sections = [_section(section, [group for group in groups if group.stage in section.stages]) for section in SECTIONS]
    return "\n\n".join([NOTE, *filter(None, sections), _wanted(groups)])


def between_marks(readme: str, tables: str) -> str:
    """The README with the tables between the marks, whatever stood there.

    Raises:
        DataError: there is not exactly one pair of marks in this order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise DataError("The README has no place for the tables.", expected=f"{BEGIN} and {END}, once each")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def _section(section: Section, groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    heads = ["algorithm", "granularity", "head", "loss", "seeds", *(column.title for column in section.columns)]
    rows = [[*_names(group), *(column.cell(group) for column in section.columns)] for group in groups]
    return f"**{section.title}**\n\n{markdown(heads, rows)}"


def _names(group: Group) -> list[str]:
    seeds = f"{len(group.runs)}, {group.failed} failed" if group.failed else f"{len(group.runs)}"
    return [group.algorithm, group.granularity or "–", group.head or "–", group.loss or "–", seeds]


def _wanted(groups: Sequence[Group]) -> str:
    verdicts = [(text, judge(groups)) for text, judge in WANTED]
    rows = [[text, verdict.status, verdict.why or "–"] for text, verdict in verdicts]
    title = "**Wanted** (the best configuration is chosen on the figures it is judged by)"
    return f"{title}\n\n{markdown(['figure', 'verdict', 'from'], rows)}"
