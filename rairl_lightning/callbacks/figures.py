"""Pictures of every evaluation in TensorBoard or Weights & Biases."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lightning import Trainer

from rairl_lightning.algorithms.rounds import RoundsModule
from rairl_lightning.callbacks.localisation import Localisation
from rairl_lightning.callbacks.onlooker import Found, Onlooker
from rairl_lightning.callbacks.reranking import Reranking
from rairl_lightning.callbacks.showing import show_figure, shows_figures
from rairl_lightning.callbacks.trace_logger import TraceLogger, judged
from rairl_lightning.errors import ConfigError
from rairl_lightning.evaluation.heatmap import Panel, draw_traces
from rairl_lightning.evaluation.plots import drawn
from rairl_lightning.evaluation.reranking.plots import bin_rows, choice_rows, draw_accuracy, draw_reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
Row = dict[str, Any]


class Figures(Onlooker):
    """Shows ``reranking``, ``reliability`` and ``rewards/1`` … in every logger that takes figures.

    ``reranking`` is the share of questions answered right over N by each rule, the baselines among them;
    ``reliability`` the share of right traces over ``σ(reward)``; ``rewards/n`` the expert's, the policy's and a
    perturbed trace of one question, every token on the colour of its reward. Each needs its evaluation: ``Reranking``,
    ``TraceLogger``, and ``Localisation`` for the perturbed trace. Nothing is measured for them. A baseline, which
    learns no reward, has the first alone. Without matplotlib there are none, and a warning.

    Args:
        every_n_evaluations: evaluations between two sets of figures, >= 1; a figure takes 50 to 150 kB.
        questions: most questions whose traces are drawn, >= 0.
    """

    def __init__(self, every_n_evaluations: int = 1, questions: int = 2) -> None:
        if every_n_evaluations < 1 or questions < 0:
            raise ConfigError(
                "Figures cannot run with these settings.",
                expected="every_n_evaluations >= 1, questions >= 0",
                got=f"{every_n_evaluations}, {questions}",
            )
        self.every_n_evaluations, self.questions = every_n_evaluations, questions
        self._looks = 0
        self._drawable = True

    def look(self, trainer: Trainer, module: RoundsModule, found: Found) -> None:
        """Draw what is due, in the first process."""
        due = self._looks % self.every_n_evaluations == 0
        self._looks += 1
        if not due or not self._drawable or not shows_figures(trainer):
            return
        try:
            for name, figure in self._figures(found):
                show_figure(trainer, module, name, figure)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "matplotlib":
                raise
            self._drawable = False
            warnings.warn("Figures: there are none without matplotlib; pip install matplotlib.", stacklevel=2)

    def state_dict(self) -> dict[str, int]:
        """How often it has looked, so that a resumed run draws when an uninterrupted one would."""
        return {"looks": self._looks}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._looks = state_dict["looks"]

    def _figures(self, found: Found) -> Iterator[tuple[str, Figure]]:
        if Reranking in found:
            (row,) = found[Reranking].rows
            choices = [one for n, rules in row["best_of"].items() for one in choice_rows(n, rules, row["questions"])]
            yield "reranking", drawn(sorted(choices, key=lambda one: one["n"]), draw_accuracy, DPI)
            if curve := row.get("reliability", {}).get("curve"):
                yield "reliability", drawn(list(bin_rows("before", curve)), draw_reliability, DPI)
        if TraceLogger in found:
            perturbed = found[Localisation].rows if Localisation in found else []
            yield from self._rewards(found[TraceLogger].rows, perturbed)

    def _rewards(self, traces: list[Row], perturbed: list[Row]) -> Iterator[tuple[str, Figure]]:
        policy = [row for row in traces if row["source"] == "policy" and row["reward"] is not None]
        for number, row in enumerate(policy[: self.questions], 1):
            same = [one for one in traces if one["id"] == row["id"] and one["source"] == "expert"]
            panels = [*(_panel("Expert", one) for one in same), _panel("Policy", row)]
            panels += [_perturbed(one) for one in perturbed if one["id"] == row["id"]][:1]
            yield f"rewards/{number}", draw_traces(row["prompt"], panels)


def _panel(who: str, row: Row) -> Panel:
    return Panel(f"{who} · {judged(row)}", row["completion"], row["tokens"])


def _perturbed(row: Row) -> Panel:
    title = f"Perturbed, {row['kind']} · framed: what was changed; dashed: the reward falls most"
    return Panel(title, row["completion"], row["tokens"], row["changed"], row["predicted"].get("reward"))
