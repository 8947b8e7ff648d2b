"""Expert demonstrations, one file a data set.

| class | what | expert | graded by |
|---|---|---|---|
| GSM8K | grade-school word problems | people | Exact |
| MMLUPro | exam questions, up to ten options, 14 categories | yours; on the hub its authors | OptionChoice |
| MedReason | medical questions, tested on MedQA | language models on a knowledge graph | OptionChoice |
| MultipleChoice | any folder of questions with options | yours | OptionChoice |
| AIME | competition problems, evaluation only | none | Mathematics |
| Countdown | arithmetic puzzles from a folder | a language model | CountdownExpression |
| GeneratedCountdown | the same from a seed | made with the puzzle | CountdownExpression |
| Arithmetic | dial problems from a seed | made with the problem | Exact |
| JsonLines | your own files | yours | OptionChoice, which is Exact without options |
"""

from rairl_lightning.data.demonstrations.aime import AIME
from rairl_lightning.data.demonstrations.arithmetic import Arithmetic
from rairl_lightning.data.demonstrations.base import DemonstrationSource, Splits, check_disjoint, held_out
from rairl_lightning.data.demonstrations.countdown import Countdown
from rairl_lightning.data.demonstrations.generated_countdown import GeneratedCountdown
from rairl_lightning.data.demonstrations.gsm8k import GSM8K
from rairl_lightning.data.demonstrations.jsonl import JsonLines
from rairl_lightning.data.demonstrations.multiple_choice import MedReason, MMLUPro, MultipleChoice

__all__ = [
    "AIME",
    "GSM8K",
    "Arithmetic",
    "Countdown",
    "DemonstrationSource",
    "GeneratedCountdown",
    "JsonLines",
    "MMLUPro",
    "MedReason",
    "MultipleChoice",
    "Splits",
    "check_disjoint",
    "held_out",
]
