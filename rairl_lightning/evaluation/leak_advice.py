"""What a leak means and what can be done about it, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rairl_lightning.evaluation.leaks import Finding, LeakReport
from rairl_lightning.evaluation.traits import TOKEN_FEATURES
from rairl_lightning.text.surface import NUMBER_FEATURES, SYMBOL_FEATURES, Family

MEANINGS = {
    **{name: (feature.meaning, feature.family) for name, feature in NUMBER_FEATURES.items()},
    **{name: (feature.meaning, feature.family) for name, feature in SYMBOL_FEATURES.items()},
    **TOKEN_FEATURES,
}
"""Meaning and family of every feature."""

LEGITIMATE = frozenset({Family.LENGTH, Family.ENDING, Family.CHARACTERS, Family.NOTATION, Family.WORDS})
"""Families in which right and wrong traces may differ for a good reason."""

_IMITATE = "let the policy imitate the demonstrations first (model.init_args.sft.epochs)"
_REMEDIES = {
    Family.LENGTH: f"{_IMITATE}, and watch rollouts/length: if it drifts, the reward pays for it",
    Family.ENDING: "raise sampler.init_args.max_new_tokens, so that traces end by themselves",
    Family.LAYOUT: f"{_IMITATE}, or ask for the layout in the system_prompt",
    Family.SPACING: f"clean the demonstrations, or {_IMITATE}",
    Family.CHARACTERS: f"write the demonstrations in the policy's style, or {_IMITATE}",
    Family.NOTATION: f"write the demonstrations in the policy's notation, or {_IMITATE}",
    Family.WORDS: f"write the demonstrations in the policy's words, or {_IMITATE}",
    Family.TOKENS: "keep label switching (components.AnswerAgreement), which puts sampled traces among the positives",
}


@dataclass(frozen=True)
class Comparison:
    """Who is compared with whom.

    Attributes:
        key: in metrics and in ``leaks.json``.
        positives: what the positives are called.
        negatives: what the negatives are called.
        caution: said where a feature may differ for a good reason.
        sampled: whether the policy wrote any of the traces, so that what it writes like is a remedy.
        perturbed: whether the negatives are perturbed demonstrations.
    """

    key: str
    positives: str
    negatives: str
    caution: str
    sampled: bool
    perturbed: bool


_BY_PERTURBING = "a perturbation that adds or drops a step changes this by necessity"
_BY_ERROR = "wrong rollouts may differ in this for a good reason, such as a derivation that was cut short"

BEFORE = Comparison("before", "demonstrations", "perturbed demonstrations", _BY_PERTURBING, False, True)
ROLLOUTS = Comparison("rollouts", "positives", "rollouts labelled negative", _BY_ERROR, True, False)
PERTURBED = Comparison("perturbed", "positives", "perturbed demonstrations", _BY_PERTURBING, True, True)


def explain(report: LeakReport, leaks: Sequence[Finding], comparison: Comparison, most: int = 3) -> str:
    """A warning that names the features, says what they mean and what to do; not that anything is wrong for sure.

    Args:
        report: of the comparison.
        leaks: what it is about, at least one, the strongest first.
        comparison: between whom.
        most: features that are shown in full; the names of the others follow.
    """
    positives, negatives = comparison.positives, comparison.negatives
    families = list(dict.fromkeys(MEANINGS[one.feature][1] for one in leaks))
    lines = [
        f"A discriminator could tell {positives} from {negatives} without reading them "
        f"({report.positives} and {report.negatives} traces):",
        *(f"  {_line(one)}" for one in leaks[:most]),
        *([f"  likewise: {', '.join(one.feature for one in leaks[most:])}"] if leaks[most:] else []),
        "  meaning:  the reward may pay for this instead of for reasoning, and the policy will follow it.",
    ]
    if LEGITIMATE.intersection(families):
        lines.append(f"  caution:  {comparison.caution}; read some of both before you act.")
    lines += [f"  remedy:   {remedy}." for remedy in _remedies(families, comparison)]
    return "\n".join(lines)


def _line(leak: Finding) -> str:
    meaning = MEANINGS[leak.feature][0]
    seen = f"mean {leak.positives:.3g} against {leak.negatives:.3g}"
    if leak.symbol is not None:
        place, _, symbol = leak.symbol.partition(" ")
        seen = f"{symbol} at place {int(place) + 1} in {leak.positives:.0%} against {leak.negatives:.0%}"
    return f"`{leak.feature}` ({meaning}) alone has AUROC {leak.auroc:.2f} (at least {leak.low:.2f}): {seen}"


def _remedies(families: Sequence[Family], comparison: Comparison) -> list[str]:
    remedies = []
    if comparison.perturbed:
        kinds = " and ".join(families)
        remedies.append(f"drop or mend the kind in data.perturbations that changes {kinds}")
    if comparison.sampled:
        remedies += [_REMEDIES[family] for family in families]
    return remedies
