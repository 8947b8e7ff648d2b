"""Every component can be named in YAML, and its fields are its keys."""

import dataclasses
import inspect
from abc import ABC

import jsonargparse
import pytest

from rairl_lightning import components
from rairl_lightning.components import (
    Advantage,
    BatchScaling,
    BinaryCrossEntropy,
    ClippedSurrogate,
    ConstantLength,
    Critic,
    DiscriminatorLoss,
    EntropyBonus,
    EstimateK2,
    Granularity,
    Interval,
    Level,
    MeanLogprob,
    Pairwise,
    PerPosition,
    PolicyLoss,
    ReadMixed,
    RewardToGo,
    SegmentBonus,
    SequenceSurrogate,
    TwoHead,
)

CLASSES = [getattr(components, name) for name in components.__all__]
CONCRETE = [c for c in CLASSES if not inspect.isabstract(c) and issubclass(c, ABC)]


def instantiate(role: type, class_name: str, **init_args: object) -> object:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=role)
    node = {"class_path": f"rairl_lightning.components.{class_name}", "init_args": init_args}
    return parser.instantiate_classes(parser.parse_object({"part": node})).part


@pytest.mark.parametrize("component", CONCRETE)
def test_is_a_frozen_dataclass_with_documented_fields(component):
    assert dataclasses.is_dataclass(component) and component.__dataclass_params__.frozen
    source = inspect.getsource(component)
    for field in dataclasses.fields(component):
        _, _, after = source.partition(f"    {field.name}: ")
        assert after.splitlines()[1].strip().startswith('"""'), f"{field.name} says nothing to --help"


@pytest.mark.parametrize("component", CONCRETE)
def test_every_component_is_named_by_its_class_path(component):
    role = next(base for base in component.__mro__ if inspect.isabstract(base))
    required = {"max_tokens": 5} if component is ConstantLength else {}
    assert instantiate(role, component.__name__, **required) == component(**required)


def test_nested_parts_and_values():
    assert instantiate(Granularity, "Interval", every=7) == Interval(every=7)
    loss = instantiate(
        DiscriminatorLoss, "BinaryCrossEntropy", reduction={"class_path": "rairl_lightning.components.PerPosition"}
    )
    assert loss == BinaryCrossEntropy(reduction=PerPosition())
    normalisation = {"class_path": "rairl_lightning.components.ConstantLength", "init_args": {"max_tokens": 824}}
    surrogate = instantiate(PolicyLoss, "ClippedSurrogate", epsilon_high=0.28, normalisation=normalisation)
    assert surrogate == ClippedSurrogate(epsilon_high=0.28, normalisation=ConstantLength(824))


def part(name: str, **init_args: object) -> dict[str, object]:
    return {"class_path": f"rairl_lightning.components.{name}", "init_args": init_args}


@pytest.mark.parametrize(
    ("role", "expected", "init_args"),
    [
        (
            Critic,
            TwoHead(logprob=MeanLogprob(floor=-5.0), read_out=ReadMixed(0.25), shaping_clip=2.0),
            {
                "logprob": part("MeanLogprob", floor=-5.0),
                "read_out": part("ReadMixed", shaping_weight=0.25),
                "shaping_clip": 2.0,
            },
        ),
        (DiscriminatorLoss, EntropyBonus(Pairwise(0.1)), {"loss": part("Pairwise", label_smoothing=0.1)}),
        (
            Advantage,
            SegmentBonus(RewardToGo(scaling=BatchScaling(eps=0.1)), Level()),
            {"base": part("RewardToGo", scaling=part("BatchScaling", eps=0.1)), "signal": part("Level")},
        ),
        (PolicyLoss, SequenceSurrogate(kl=EstimateK2()), {"kl": part("EstimateK2")}),
    ],
)
def test_parts_of_parts(role: type, expected: object, init_args: dict[str, object]):
    assert instantiate(role, type(expected).__name__, **init_args) == expected


@pytest.mark.parametrize("init_args", [{"evry": 7}, {"every": 0}, {"every": "often"}])
def test_unknown_keys_and_bad_values_fail(init_args):
    with pytest.raises((jsonargparse.ArgumentError, ValueError)):
        instantiate(Granularity, "Interval", **init_args)


def test_all_lists_what_is_there():
    assert components.__all__ == sorted(set(components.__all__))
