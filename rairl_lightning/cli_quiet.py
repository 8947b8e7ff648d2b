"""Keeps other libraries' remarks out of the terminal, where ours and the errors must be seen. Command line only."""

import logging
import warnings

# What is said, and why it is nothing to act on.
WARNINGS = (
    r"Found \d+ module\(s\) in eval mode",  # the reference never trains
    r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own call
    r".*is_gradient_checkpointing. is deprecated",  # PEFT's own call
    r".*does not have many workers",  # batches are made from text in memory
    r"The .*_dataloader.* does not have",
)
LOG_LINES = (
    ("lightning.pytorch.utilities.rank_zero", "💡 Tip"),
    ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward"),  # we switch that kernel off
)


class _Without(logging.Filter):
    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().lstrip().startswith(self.start)


def quieten() -> None:
    """Silence the known remarks; call before the libraries are imported."""
    for pattern in WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)
    for name, start in LOG_LINES:
        logging.getLogger(name).addFilter(_Without(start))


def no_loading_bars() -> None:
    """Switch off the bars that transformers draws while it reads or writes weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
