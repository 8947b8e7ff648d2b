"""Which device is meant."""

from __future__ import annotations

import pytest

from rairl_lightning.errors import ConfigError
from rairl_lightning.planning.devices import DEVICES, chosen_device


def test_presets_say_where_they_are_from() -> None:
    assert all(one.source and one.memory > 10**10 and one.flops and one.bandwidth for one in DEVICES.values())


def test_figures_replace_those_of_the_device() -> None:
    found = chosen_device("a100-80gb", tflops=100)
    assert (found.flops, found.bandwidth) == (1e14, DEVICES["a100-80gb"].bandwidth) and "tflops 100" in found.source
    given = chosen_device(memory_gb=24, tflops=80, bandwidth_gbs=900)
    assert (given.memory, given.flops, given.bandwidth, given.on_cpu) == (24 * 10**9, 8e13, 9e11, False)
    assert chosen_device("cpu").on_cpu


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"device": "a100-80"}, "did you mean 'a100-80gb'"),
        ({"device": "abacus"}, "give --memory_gb"),
        ({"memory_gb": 0}, "memory_gb"),
        ({"tflops": float("inf")}, "tflops"),
        ({"bandwidth_gbs": -1}, "bandwidth_gbs"),
    ],
)
def test_what_is_wrong_is_said(options: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        chosen_device(**options)
