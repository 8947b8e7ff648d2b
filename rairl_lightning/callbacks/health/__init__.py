"""The signs of a collapse, and the callback ``Health`` that acts on them.

======================  =================================================================  ======================
kind (any metric)       bad where the reading is                                           named signs
======================  =================================================================  ======================
``Falls``               at or under a share of the best healthy window                     ``GroupRewardSpread``, ``FormatRate``, ``AnswerRate``, ``AgreementFalls``, ``DistinctRate``, ``FinishedRate``, ``LengthFalls``, ``EntropyFalls``
``Rises``               at or over a multiple of the first healthy window                  ``LengthRises``, ``EntropyRises``
``Above``, ``Below``    past a fixed level                                                 ``KLToReference``, ``SkippedUpdates``; ``HeldoutAuroc``
======================  =================================================================  ======================
"""  # noqa: E501

from rairl_lightning.callbacks.health.callback import Health
from rairl_lightning.callbacks.health.history import History
from rairl_lightning.callbacks.health.kinds import Above, Below, Falls, Level, Rises, Sign
from rairl_lightning.callbacks.health.signs import (
    AgreementFalls,
    AnswerRate,
    DistinctRate,
    EntropyFalls,
    EntropyRises,
    FinishedRate,
    FormatRate,
    GroupRewardSpread,
    HeldoutAuroc,
    KLToReference,
    LengthFalls,
    LengthRises,
    SkippedUpdates,
    default_signs,
)
from rairl_lightning.callbacks.health.snapshot import Snapshot
from rairl_lightning.callbacks.health.verdict import Collapse, Outcome, TrainingVerdict
from rairl_lightning.callbacks.health.watch import Watch

__all__ = [
    "Above",
    "AgreementFalls",
    "AnswerRate",
    "Below",
    "Collapse",
    "DistinctRate",
    "EntropyFalls",
    "EntropyRises",
    "Falls",
    "FinishedRate",
    "FormatRate",
    "GroupRewardSpread",
    "Health",
    "HeldoutAuroc",
    "History",
    "KLToReference",
    "LengthFalls",
    "LengthRises",
    "Level",
    "Outcome",
    "Rises",
    "Sign",
    "SkippedUpdates",
    "Snapshot",
    "TrainingVerdict",
    "Watch",
    "default_signs",
]
