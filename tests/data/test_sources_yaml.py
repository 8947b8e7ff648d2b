"""Every source is a class that YAML names, short or in full, and every choice of it is a key."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import Any

import jsonargparse
import pytest
import yaml

from rairl_lightning.data import demonstrations, traces
from rairl_lightning.data.demonstrations import DemonstrationSource
from rairl_lightning.data.traces import StepSource, TraceSource
from rairl_lightning.text.graders import Exact, Mathematics

ROLES = (DemonstrationSource, TraceSource, StepSource)
SOURCES = [
    (role, cls)
    for package in (demonstrations, traces)
    for cls in (getattr(package, name) for name in package.__all__)
    for role in ROLES
    if inspect.isclass(cls) and issubclass(cls, role) and not inspect.isabstract(cls)
]


def instantiate(role: type, class_path: str, **init_args: Any) -> Any:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=role)
    node = {"class_path": class_path, "init_args": init_args}
    return parser.instantiate_classes(parser.parse_object({"source": node})).source


def required(cls: type) -> dict[str, str]:
    return {
        item.name: "somewhere"
        for item in dataclasses.fields(cls)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }


def test_all_are_here() -> None:
    assert {cls.__name__ for _, cls in SOURCES} == {
        "AIME", "Arithmetic", "Countdown", "GSM8K", "GeneratedCountdown", "JsonLines", "MMLUPro", "MedReason",
        "MultipleChoice", "TraceFile", "ProcessSteps", "PRM800K", "MRGSM8K",
    }  # fmt: skip


@pytest.mark.parametrize(("role", "cls"), SOURCES)
def test_a_source_is_named_by_its_class_and_frozen(role: type, cls: type) -> None:
    assert cls.__dataclass_params__.frozen
    for name in (f"{cls.__module__}.{cls.__name__}", cls.__name__):
        assert instantiate(role, name, **required(cls)) == cls(**required(cls))


@pytest.mark.parametrize(("role", "cls"), [pair for pair in SOURCES if pair[0] is not StepSource])
def test_how_answers_are_graded_is_a_key(role: type, cls: type) -> None:
    chosen = {"class_path": "Mathematics", "init_args": {"seconds": 2.0}}
    source = instantiate(role, cls.__name__, grader=chosen, **required(cls))
    assert source.grader == Mathematics(2.0) != cls(**required(cls)).grader
    assert instantiate(role, cls.__name__, grader="Exact", **required(cls)).grader == Exact()


@pytest.mark.parametrize(("role", "cls"), SOURCES)
def test_the_snippet_of_the_docstring_works(role: type, cls: type) -> None:
    documented = inspect.getdoc(cls) or ""
    found = re.search(r"\.\. code-block:: yaml\n\n((?: {4}.*\n?|\n)+)", documented)
    if cls.__name__ == "Arithmetic":
        assert found is None, "its keys are documented one by one"
        return
    assert found is not None
    (node,) = yaml.safe_load(textwrap.dedent(found[1])).values()
    assert node["class_path"] == f"rairl_lightning.data.{role_folder(role)}.{cls.__name__}"
    assert isinstance(instantiate(role, node["class_path"], **node["init_args"]), cls)


def role_folder(role: type) -> str:
    return "demonstrations" if role is DemonstrationSource else "traces"
