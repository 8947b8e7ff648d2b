"""Expert traces made wrong at a known place: checked negatives, and free labels for localisation.

Each is called with a demonstration, a generator and other demonstrations of the data set, and gives a
:class:`Corruption` or, where it does not apply, None. *Answer*: whether it must become wrong, too; *span*: what is
marked. The shares of demonstrations to which each applies, with 15 others at hand, were measured on the first 500
training questions of GSM8K, on 200 of the built-in dials, on 500 of MMLU-Pro and on 500 *medical* ones, which stand in
for MedReason, whose training file was not to be had: multiple choice with explanations by GPT-4 and GPT-4o, four fifths
of it from MedMCQA (``tests/text/test_perturbations_real.py`` holds the shares).

| class | what goes wrong | answer | span | GSM8K | dials | MMLU-Pro | medical |
|---|---|---|---|---|---|---|---|
| CarriedSlip | a result; all later lines follow from it | wrong | the result | .86 | 1 | 0 | 0 |
| WrongOperand | a quoted number; likewise | wrong | the quote | .75 | 1 | 0 | 0 |
| StrayOperand | another number of the prompt; likewise | wrong | the quote | .65 | 1 | 0 | 0 |
| OperatorFlip | an operator of a true equation | kept | it | .96 | 1 | .18 | 0 |
| NumberCorruption | one digit | kept | it | 1 | 1 | .50 | .23 |
| SwappedOperands | a - b becomes b - a | kept | both | .73 | .71 | .11 | 0 |
| SwappedQuantities | two numbers of a step change places | kept | both | .97 | 1 | .26 | .02 |
| NudgedAnswer | the answer alone | wrong | it | 1 | 1 | 1 | 1 |
| DroppedStep | a step is missing | kept | where it is missed | .95 | 1 | .09 | 0 |
| ReorderedSteps | a result is used before it is computed | kept | where it is used | .86 | 1 | .06 | 0 |
| BorrowedStep | a step of another trace | kept | the step | 1 | 1 | .91 | 1 |
| WrongEntity | a name, unit or term | kept | it | .91 | 1 | .81 | .88 |
| DirectionFlip | increase for decrease, … | kept | it | .63 | 1 | .54 | .85 |
| Negation | a statement is denied, or a denial dropped | kept | it | .66 | 0 | .89 | .98 |
| SwappedOption | the conclusion names another option | wrong | its letter or text | 0 | 0 | 1 | 1 |
"""

from rairl_lightning.text.perturbations.arithmetic import (
    NudgedAnswer,
    NumberCorruption,
    OperatorFlip,
    SwappedOperands,
    SwappedQuantities,
)
from rairl_lightning.text.perturbations.base import (
    Attempt,
    Corruption,
    Perturbation,
    Rewrite,
    Solution,
    changed_span,
    corrupt,
)
from rairl_lightning.text.perturbations.carrying import CarriedSlip, StrayOperand, WrongOperand
from rairl_lightning.text.perturbations.clinical import DirectionFlip, Negation, WrongEntity
from rairl_lightning.text.perturbations.options import SwappedOption
from rairl_lightning.text.perturbations.structure import BorrowedStep, DroppedStep, ReorderedSteps

EVERY_KIND: tuple[Perturbation, ...] = (
    CarriedSlip(),
    WrongOperand(),
    StrayOperand(),
    OperatorFlip(),
    NumberCorruption(),
    SwappedOperands(),
    SwappedQuantities(),
    NudgedAnswer(),
    DroppedStep(),
    ReorderedSteps(),
    BorrowedStep(),
    WrongEntity(),
    DirectionFlip(),
    Negation(),
    SwappedOption(),
)
"""Each with its defaults; one that does not apply to a trace gives way to another."""

__all__ = [
    "Attempt",
    "BorrowedStep",
    "CarriedSlip",
    "Corruption",
    "DirectionFlip",
    "DroppedStep",
    "Negation",
    "NudgedAnswer",
    "NumberCorruption",
    "OperatorFlip",
    "Perturbation",
    "ReorderedSteps",
    "Rewrite",
    "Solution",
    "StrayOperand",
    "SwappedOperands",
    "SwappedOption",
    "SwappedQuantities",
    "WrongEntity",
    "WrongOperand",
    "changed_span",
    "corrupt",
]
