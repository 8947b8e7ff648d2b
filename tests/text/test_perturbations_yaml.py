"""Every perturbation is named in YAML by the class path of the package."""

import dataclasses
import inspect

import jsonargparse
import pytest
from perturbing import KINDS

from rairl_lightning.text import perturbations
from rairl_lightning.text.perturbations import Perturbation

CONCRETE = [
    item
    for item in (getattr(perturbations, name) for name in perturbations.__all__)
    if inspect.isclass(item) and issubclass(item, Perturbation) and not inspect.isabstract(item)
]


def instantiate(class_name, **init_args):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=Perturbation)
    node = {"class_path": f"rairl_lightning.text.perturbations.{class_name}", "init_args": init_args}
    return parser.instantiate_classes(parser.parse_object({"part": node})).part


@pytest.mark.parametrize("kind", CONCRETE)
def test_is_a_frozen_dataclass_named_by_its_class_path(kind):
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert instantiate(kind.__name__) == kind()
    with pytest.raises(jsonargparse.ArgumentError):
        instantiate(kind.__name__, often=True)


def test_the_lists_are_complete():
    assert perturbations.__all__ == sorted(perturbations.__all__)
    assert {type(kind) for kind in KINDS} == set(CONCRETE)
    assert all(f"| {kind.__name__} |" in perturbations.__doc__ for kind in CONCRETE), "the table names each"
