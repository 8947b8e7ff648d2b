from pathlib import Path

import pytest
import torch

from rairl_lightning.models import BackboneSpec, ExpectationHead, FullFineTuning, LoRASpec, ModelPair, SharedBase
from rairl_lightning.models.tiny import build_tiny

CORPUS = ("Ann has 3 cups .", "<think>\n1 + 2 = 3\n</think>\n<answer>\n3\n</answer>")
QUESTIONS = ("Ann has 3 cups .", "Ann", "Ann has 3 cups . Ann has 12 cups .")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"), CORPUS, hidden=32, layers=2, heads=2)


def built(kind: str, tiny: Path) -> ModelPair:
    """Weights far from uniform, with the end of turn about as likely as other tokens."""
    torch.manual_seed(1)
    lora = LoRASpec(4, 8)
    if kind == "full":
        pair = FullFineTuning(BackboneSpec(str(tiny))).build()
    else:
        backbone = BackboneSpec(str(tiny), quantisation="nf4" if kind == "nf4" else None)
        pair = SharedBase(backbone, lora, lora, ExpectationHead(4)).build()
    with torch.no_grad():
        for parameter in pair.trainable_parameters("policy"):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return pair


@pytest.fixture(scope="session", params=["full", "shared", "nf4"])
def pair(request: pytest.FixtureRequest, tiny: Path) -> ModelPair:
    return built(request.param, tiny)


@pytest.fixture(scope="session")
def adapted(tiny: Path) -> ModelPair:
    """An adapter over a base in float32."""
    return built("shared", tiny)


@pytest.fixture(scope="session")
def prompts(pair: ModelPair) -> list[list[int]]:
    return [pair.codec.encode_prompt(question) for question in QUESTIONS]
