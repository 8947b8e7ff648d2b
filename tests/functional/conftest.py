"""Makes the float64 references importable by name, and shares ragged batches."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def ragged(generator: torch.Generator) -> Callable[..., Tensor]:
    """Completion masks of random prompt and completion lengths, padded on either side."""

    def build(rows: int = 6, width: int = 17, side: str = "right") -> Tensor:
        prompts = torch.randint(1, 5, (rows, 1), generator=generator)
        lengths = torch.randint(1, width - 5, (rows, 1), generator=generator)
        start = width - lengths if side == "left" else prompts
        columns = torch.arange(width)
        return (columns >= start) & (columns < start + lengths)

    return build
