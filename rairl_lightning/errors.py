"""Errors that say what was expected, what was found and what to do next.

Every error of ours derives from :class:`RAIRLError` *and* from the standard error it stands for, so that
``except ValueError`` keeps working. The command line turns each into one message and its ``exit_code``.
"""


class RAIRLError(Exception):
    """Base of all errors of the package.

    Args:
        what: one sentence that names the thing that is wrong.
        expected: what would have been accepted.
        got: what was found instead.
        remedy: what the user can do now.

    >>> print(RAIRLError("The learning rate is negative.", expected="> 0", got=-1, remedy="set model.lr"))
    The learning rate is negative.
      expected: > 0
      got:      -1
      remedy:   set model.lr
    """

    exit_code = 1

    def __init__(self, what: str, *, expected: object = None, got: object = None, remedy: str | None = None) -> None:
        lines = [what]
        lines += [f"  expected: {expected}"] if expected is not None else []
        lines += [f"  got:      {got}"] if got is not None else []
        lines += [f"  remedy:   {remedy}"] if remedy is not None else []
        super().__init__("\n".join(lines))


class ConfigError(RAIRLError, ValueError):
    """A value, key or combination in the configuration that cannot work."""

    exit_code = 2


class DataError(RAIRLError, ValueError):
    """A data file or a record in it that cannot be used."""

    exit_code = 3


class ModelError(RAIRLError, RuntimeError):
    """A backbone, tokenizer or adapter that is missing, incomplete or inconsistent."""

    exit_code = 4


class CheckpointError(RAIRLError, RuntimeError):
    """A checkpoint that cannot be written, or that does not fit the configured models."""

    exit_code = 5


class TrainingError(RAIRLError, RuntimeError):
    """Training reached a state that cannot be right, such as a player that never moves."""

    exit_code = 6
