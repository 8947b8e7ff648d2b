"""Can the discriminator's positives be told from its negatives without reading them?

Adversarial rewards fail here first: a discriminator that can win by length, or by a space at the end, need not learn
about reasoning. Each surface feature is tried alone, and all of them together in a small logistic regression. Not in
the paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from rairl_lightning.errors import DataError
from rairl_lightning.evaluation.traits import Traits
from rairl_lightning.functional.logistic import logistic_scores
from rairl_lightning.functional.separation import Separation, bounded_auroc
from rairl_lightning.models.codec import TraceCodec
from rairl_lightning.types import TokenBatch

THRESHOLD = 0.8
"""A feature whose AUROC is shown to lie above this is a leak."""
FEWEST_PROMPTS = 16
"""Of either class; with fewer nothing is judged."""
FOLDS = 5


@dataclass(frozen=True)
class Finding:
    """How well one feature alone tells the classes apart.

    Attributes:
        feature: its name.
        auroc: whichever direction is better, so >= 0.5 but for symbols, whose direction is learnt from other traces.
        low: lower bound of it (99 %, one-sided), or the AUROC itself where that is smaller than one half.
        positives: mean among positives; of symbols the share that has ``symbol``.
        negatives: likewise.
        symbol: the most telling one, None for numbers.
    """

    feature: str
    auroc: float
    low: float
    positives: float
    negatives: float
    symbol: str | None = None


@dataclass(frozen=True)
class LeakReport:
    """What two samples of traces give away.

    Attributes:
        positives: traces.
        negatives: traces.
        prompts: of positives and of negatives.
        findings: all features that vary, the strongest first.
        together: held-out AUROC of a logistic regression on all of them; None where nothing is judged.
    """

    positives: int
    negatives: int
    prompts: tuple[int, int]
    findings: tuple[Finding, ...]
    together: Separation | None

    @property
    def judged(self) -> bool:
        """Whether there are enough prompts to say anything."""
        return min(self.prompts) >= FEWEST_PROMPTS

    def leaks(self, threshold: float = THRESHOLD) -> tuple[Finding, ...]:
        """Features that are shown to separate the classes better than ``threshold``, an AUROC."""
        return tuple(one for one in self.findings if one.low > threshold) if self.judged else ()

    def to_json(self, features: int) -> dict[str, Any]:
        """Plain values, with so many of the strongest features."""
        findings = [{k: _rounded(v) for k, v in asdict(one).items()} for one in self.findings[:features]]
        return {
            "positives": self.positives,
            "negatives": self.negatives,
            "prompts": list(self.prompts),
            "judged": self.judged,
            "all_features": self.together and {k: _rounded(v) for k, v in self.together._asdict().items()},
            "features": findings,
        }


def text_leaks(
    positives: Sequence[str],
    negatives: Sequence[str],
    positive_prompts: Sequence[str] | None = None,
    negative_prompts: Sequence[str] | None = None,
) -> LeakReport:
    """:func:`find_leaks` in two lists of completions.

    Args:
        positives: texts.
        negatives: texts.
        positive_prompts: one for each; without, all texts count as independent.
        negative_prompts: likewise; given for both or for neither.

    >>> texts = [f"{number} apples" for number in range(40)]
    >>> report = text_leaks(texts, [f"{text} " for text in texts], texts, texts)
    >>> [one.feature for one in report.leaks()]
    ['trailing_space']
    """
    if (positive_prompts is None) != (negative_prompts is None):
        raise DataError("Prompts are known of one class only.", expected="prompts of both, or of neither")
    own = [f"negative {place}" for place in range(len(negatives))]
    negative = Traits.of_texts(negatives, own if negative_prompts is None else negative_prompts)
    return find_leaks(Traits.of_texts(positives, positive_prompts), negative)


def token_leaks(positives: TokenBatch, negatives: TokenBatch, codec: TraceCodec) -> LeakReport:
    """:func:`find_leaks` in two batches of traces.

    Args:
        positives: traces.
        negatives: traces.
        codec: that made both.
    """
    return find_leaks(Traits.of_tokens(positives, codec), Traits.of_tokens(negatives, codec))


def find_leaks(positives: Traits, negatives: Traits) -> LeakReport:
    """Try every feature alone, and all together; draws nothing at random.

    A number is ranked in its better direction. Symbols are first turned into a number, the sum over a trace's symbols
    of ``log (p⁺ + s) - log (p⁻ + s)``, where p are a symbol's shares among the positives and negatives of the *other*
    prompts' folds and s that of one trace of the smaller class; so what occurs once proves nothing.

    Args:
        positives: of M⁺ traces, with the same columns as the negatives.
        negatives: of M⁻ traces.
    """
    prompts = (len(set(positives.prompts)), len(set(negatives.prompts)))
    if min(prompts) < FEWEST_PROMPTS:
        return LeakReport(len(positives), len(negatives), prompts, (), None)
    both = Traits.cat([positives, negatives])
    labels_M = torch.arange(len(both)) < len(positives)
    keys = {key: place for place, key in enumerate(sorted(set(both.prompts)))}
    clusters_M = torch.tensor([keys[key] for key in both.prompts])
    folds_M = _folds(clusters_M, labels_M)
    encoded = {name: _log_ratios(rows, labels_M, folds_M) for name, rows in both.symbols.items()}
    findings = [_of_number(name, column, labels_M, clusters_M) for name, column in both.numbers.items()]
    findings += [
        _of_symbols(name, both.symbols[name], column, labels_M, clusters_M) for name, column in encoded.items()
    ]
    scores_M = logistic_scores(torch.stack([*both.numbers.values(), *encoded.values()], dim=1), labels_M, folds_M)
    ranked = sorted(findings, key=lambda one: (-one.low, -one.auroc))
    together = bounded_auroc(scores_M, labels_M, clusters_M)
    return LeakReport(len(positives), len(negatives), prompts, tuple(ranked), together)


def _folds(clusters_M: Tensor, labels_M: Tensor) -> Tensor:
    """A fold for each prompt; prompts of both classes, of positives and of negatives are spread over folds alike."""
    count = int(clusters_M.max()) + 1
    kinds = torch.zeros(count, 2, dtype=torch.bool)
    kinds[clusters_M, labels_M.long()] = True
    folds = torch.zeros(count, dtype=torch.int64)
    start = 0
    for kind in kinds.unique(dim=0):
        members = torch.nonzero((kinds == kind).all(dim=1)).flatten()
        folds[members] = (start + torch.arange(len(members))) % FOLDS
        start += len(members)
    return folds[clusters_M]


def _log_ratios(rows: Sequence[tuple[str, ...]], labels_M: Tensor, folds_M: Tensor) -> Tensor:
    """Cross-fitted score of symbols, ``[M]``; see :func:`find_leaks`."""
    scores = torch.zeros(len(rows), dtype=torch.float64)
    classes, folds = labels_M.tolist(), folds_M.tolist()
    for fold in sorted(set(folds)):
        counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        sizes = Counter(label for label, other in zip(classes, folds, strict=True) if other != fold)
        for row, label, other in zip(rows, classes, folds, strict=True):
            if other != fold:
                counts[label].update(row)
        known = {*counts[True], *counts[False]}
        shares = torch.tensor([[counts[c][s] / sizes[c] for s in known] for c in (True, False)], dtype=torch.float64)
        above, below = (shares + 1 / min(sizes.values())).log()
        table = dict(zip(known, (above - below).tolist(), strict=True))
        for place, (row, other) in enumerate(zip(rows, folds, strict=True)):
            if other == fold:
                scores[place] = sum(table.get(symbol, 0.0) for symbol in row)
    return scores


def _of_number(name: str, column_M: Tensor, labels_M: Tensor, clusters_M: Tensor) -> Finding:
    area, low = max(bounded_auroc(sign * column_M, labels_M, clusters_M) for sign in (1, -1))
    return Finding(name, area, low, float(column_M[labels_M].mean()), float(column_M[~labels_M].mean()))


def _of_symbols(
    name: str, rows: Sequence[tuple[str, ...]], scores_M: Tensor, labels_M: Tensor, clusters_M: Tensor
) -> Finding:
    area, low = bounded_auroc(scores_M, labels_M, clusters_M)
    sides: list[dict[str, float]] = []
    for side in (labels_M.tolist(), (~labels_M).tolist()):
        counts = Counter(symbol for row, inside in zip(rows, side, strict=True) if inside for symbol in row)
        sides.append({symbol: count / sum(side) for symbol, count in counts.items()})
    gap = {symbol: abs(sides[0].get(symbol, 0.0) - sides[1].get(symbol, 0.0)) for one in sides for symbol in one}
    best = max(sorted(gap), key=lambda symbol: gap[symbol], default="")
    return Finding(name, area, low, sides[0].get(best, 0.0), sides[1].get(best, 0.0), best)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
