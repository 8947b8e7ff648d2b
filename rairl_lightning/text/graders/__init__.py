"""Graders: is this answer right? One class a kind of answer, named in YAML.

| class | answers |
|---|---|
| Exact | numbers, exactly; anything else as text |
| OptionChoice | one option of several, by letter or text |
| CountdownExpression | arithmetic that makes a target |
| Mathematics | expressions, sets, intervals: math-verify, within a time limit |
"""

from rairl_lightning.text.graders.base import Grade, Grader, Question
from rairl_lightning.text.graders.countdown import CountdownExpression
from rairl_lightning.text.graders.exact import Exact
from rairl_lightning.text.graders.mathematics import Mathematics
from rairl_lightning.text.graders.option_choice import OptionChoice

__all__ = ["CountdownExpression", "Exact", "Grade", "Grader", "Mathematics", "OptionChoice", "Question"]
