"""Makes the float64 references importable by name, and shares one ragged round of two groups."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """Float64 normal numbers, seeded once a test."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.fixture(params=["left", "right"])
def mask(request: pytest.FixtureRequest) -> Tensor:
    """``[8, 15]`` completions of 1 to 11 tokens behind prompts of 1 to 3, padded on either side."""
    lengths = torch.tensor([[1], [5], [11], [7], [3], [8], [2], [6]])
    prompts = torch.tensor([[1], [2], [3], [1], [2], [3], [1], [2]])
    start = 15 - lengths if request.param == "left" else prompts
    columns = torch.arange(15)
    return (columns >= start) & (columns < start + lengths)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
