"""The curves of both players, grouped into charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rairl_lightning.reporting.charts import Chart, Series, chart
from rairl_lightning.reporting.events import Curve, Phase

GROUPS: dict[str, tuple[str, ...]] = {
    "Reward of the rollouts": ("reward/mean", "reward/group_std"),
    "Answers: agreement and pass@1": ("rollouts/agreement", "selection/pass@1", "selection/rerank/random"),
    "Discriminator: AUROC on held-out prompts": ("discriminator/heldout_auroc", "selection/rerank/auroc"),
    "Best of N on selection": (
        "selection/rerank/reward",
        "selection/rerank/weighted",
        "selection/rerank/majority",
        "selection/rerank/logprob",
        "selection/rerank/shortest",
        "selection/rerank/random",
        "selection/rerank/oracle",
    ),
    "Localisation on selection: Hit@1, step": (
        "selection/localise/reward_step",
        "selection/localise/logprob_drop_step",
        "selection/localise/chance_step",
    ),
    "Shape of the rollouts": (
        "rollouts/format_rate",
        "rollouts/answer_rate",
        "rollouts/finished_rate",
        "rollouts/distinct_rate",
    ),
    "Length of the rollouts, tokens": ("rollouts/length",),
    "KL to the reference": ("policy/kl",),
    "Entropy of the policy": ("policy/entropy",),
    "Loss: policy": ("policy/loss",),
    "Loss: discriminator": ("discriminator/loss",),
    "Loss: SFT": ("sft/loss",),
    "Update norms": ("policy/update_norm", "discriminator/update_norm", "sft/update_norm"),
    "Gradient norms": ("policy/gradient_norm", "discriminator/gradient_norm", "sft/gradient_norm"),
    "Learning rates": ("policy/learning_rate", "discriminator/learning_rate", "sft/learning_rate"),
    "Health: 0 healthy, 1 warning, 2 collapse": ("health/level",),
}
MAIN = 9
"""Charts that are open from the start."""
SHARES = ("rollouts/", "selection/", "discriminator/heldout_auroc")


def curve_charts(
    curves: Mapping[str, Curve], phases: Sequence[Phase], against: Mapping[str, Curve]
) -> tuple[list[Chart], list[Chart]]:
    """The charts that matter most, and the others; a curve in no group is in the table of numbers alone.

    Args:
        curves: of the run.
        phases: of the run.
        against: of another run, or empty.
    """
    drawn = [(title, list(_series(tags, curves, against))) for title, tags in GROUPS.items()]
    charts = [_chart(title, series, phases) for title, series in drawn if series]
    return charts[:MAIN], charts[MAIN:]


def _series(tags: Sequence[str], curves: Mapping[str, Curve], against: Mapping[str, Curve]) -> Iterator[Series]:
    for style, tag in enumerate(tags):
        name = tag.rpartition("/")[2].replace("_", " ") if len({tag.partition("/")[0] for tag in tags}) == 1 else tag
        if tag in curves:
            yield Series(name, curves[tag], style, markers=len(curves[tag]) <= 12)
        if tag in curves and tag in against:
            yield Series(f"{name}, the other run", against[tag], style, against=True)


def _chart(title: str, series: Sequence[Series], phases: Sequence[Phase]) -> Chart:
    values = [value for one in series for _, value in one.points]
    share = "Length" not in title and min(values) >= 0 and max(values) <= 1 and _is_share(title)
    return chart(title, series, "training step", phases=phases, y_range=(0.0, 1.0) if share else None)


def _is_share(title: str) -> bool:
    return all(tag.startswith(SHARES) for tag in GROUPS[title])
