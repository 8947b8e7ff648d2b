"""A policy's version is another after every update, and the same until the next."""

from __future__ import annotations

import pytest
import torch
from architectures import llama
from peft import LoraConfig, get_peft_model

from rairl_lightning.models import Policy


def policy(lora: bool) -> Policy:
    torch.manual_seed(0)
    model = llama()
    if lora:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
    return Policy(model)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_version_follows_the_weights_that_learn(lora: bool, dtype: torch.dtype) -> None:
    one = policy(lora).to(dtype)
    own = [parameter for parameter in one.parameters() if parameter.requires_grad]
    first, before = one.version(), [parameter.detach().clone() for parameter in own]
    assert first == one.version() == policy(lora).to(dtype).version()
    with torch.no_grad():
        bits = own[-1].view(torch.int32 if dtype == torch.float32 else torch.int16)
        bits.flatten()[0] += 1  # the smallest change there is, of one number
    assert one.version() != first
    with torch.no_grad():
        own[-1].copy_(before[-1])
    assert one.version() == first


def test_a_step_makes_another_version() -> None:
    one = policy(True)
    own = [parameter for parameter in one.parameters() if parameter.requires_grad]
    versions = {one.version()}
    optimizer = torch.optim.AdamW(own, lr=1e-7)
    for parameter in own:
        parameter.grad = torch.ones_like(parameter)
    for _ in range(3):
        optimizer.step()
        versions.add(one.version())
    assert len(versions) == 4


def test_frozen_weights_do_not_count() -> None:
    one = policy(True)
    first = one.version()
    with torch.no_grad():
        one.causal_lm.get_input_embeddings().weight.add_(1)
    assert one.version() == first
    assert Policy(llama().requires_grad_(False)).version() == Policy(llama().requires_grad_(False)).version()
