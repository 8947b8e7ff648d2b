"""What arithmetic costs, against numbers worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import limits
import pytest
import torch
from speed_floors import Shape, decoding_flops, scoring_flops, training_floor, training_flops
from speed_layouts import layouts

from rairl_lightning.functional import onednn
from rairl_lightning.models.loading import load_backbone
from rairl_lightning.models.specs import BackboneSpec

# Hidden 4, feed-forward 6, 2 blocks, 2 query heads of 2, one key and value head, 10 tokens. A block: query and output
# 4·4 each, key and value 2·4 each, three of 6·4: 16 + 16 + 8 + 8 + 72 = 120; the head 10·4 = 40.
SMALL = Shape(4, 6, 2, 2, 1, 2, 10)


def test_parameters_by_hand() -> None:
    assert sum(rows * columns for rows, columns in SMALL.block) == 120
    assert (SMALL.block_parameters, SMALL.head_parameters) == (240, 40)


def test_flops_by_hand() -> None:
    """Forward and the gradient of the input: 4 operations a parameter and token; the head only where the loss is."""
    assert training_flops(SMALL, tokens=5, completion_tokens=3) == 4 * 240 * 5 + 4 * 40 * 3 == 5280
    assert scoring_flops(SMALL, 5, 3) == 2640
    assert training_flops(SMALL, 5, 0) == 4800, "a discriminator has no head over the vocabulary"
    assert decoding_flops(SMALL, rows=3) == 2 * 280 * 3


def test_floor_by_hand() -> None:
    assert training_floor(SMALL, 5, 3, flops_per_second=52800.0) == 5 / 0.1
    assert training_floor(SMALL, 5, 5, 52800.0) < training_floor(SMALL, 5, 3, 52800.0), "more logits, fewer tokens"


def test_parameters_are_those_of_the_model() -> None:
    """All matrices of the built-in model, counted once it is loaded."""
    folder = BackboneSpec("builtin:dials").path
    shape, model = Shape.of(folder), load_backbone(BackboneSpec(folder))
    linears = [m.weight for m in model.get_decoder().modules() if isinstance(m, torch.nn.Linear)]
    assert shape.block_parameters == sum(weight.numel() for weight in linears)
    assert sorted(shape.block * shape.layers) == sorted(tuple(weight.shape) for weight in linears)
    assert shape.head == tuple(model.get_output_embeddings().weight.shape)


def test_shape_without_groups_or_head_size(tmp_path: Path) -> None:
    config = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "vocab_size": 5}
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))
    assert Shape.of(tmp_path) == Shape(8, 12, 1, 4, 4, 2, 5)


@pytest.fixture(scope="module")
def measured() -> dict:
    found = limits.measure(SMALL, threads=[1], rows=3, budget=0.001, gemms=[(8, 16, 8)], bytes_read=2**16)
    return found["threads"]["1"]


def test_limits_are_consistent(measured: dict) -> None:
    step = measured["decoding_step_seconds"]
    assert measured["decoding_layout"] in step and measured["decoding_tokens_per_second"] == 3 / min(step.values())
    rates = [one["flops_per_second"] for one in measured["gemms"]]
    assert measured["gemm_flops_per_second"] == max(rates) > 0 and measured["read_bytes_per_second"] > 0
    assert {"out-in", "in-out"} <= set(step)
    assert ("onednn packed" in step) is onednn.available()


def test_layouts_compute_the_same() -> None:
    x, weight = torch.randn(3, 5), torch.randn(7, 5).bfloat16().float()  # what panels of 16 bits hold
    wanted = (x.double() @ weight.double().t()).float()
    for name, layout in layouts("cpu").items():
        torch.testing.assert_close(layout(weight)(x), wanted, msg=name)


def test_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    limits.measure(SMALL, threads=[before + 1], rows=1, budget=0.0, gemms=[(2, 2, 2)], bytes_read=2**10)
    assert torch.get_num_threads() == before
