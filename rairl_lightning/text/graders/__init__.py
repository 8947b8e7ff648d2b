"""Graders: is this answer right? One class a kind of answer, named in YAML."""

from rairl_lightning.text.graders.base import Grade, Grader, Question

__all__ = ["Grade", "Grader", "Question"]
