"""Descriptions of components: they come back equal, and nobody's file makes us import or build anything else."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rairl_lightning import components
from rairl_lightning.components import Granularity, Interval, Pooling, RewardReader, SingleHead, TokenWeighted
from rairl_lightning.components.description import built, described
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.models import (
    BackboneSpec,
    ExpectationHead,
    FullFineTuning,
    LoRASpec,
    PairSpec,
    SharedBase,
    TwoBackbones,
    TwoHeads,
)
from rairl_lightning.models.specs import ASSETS

COMPONENTS = [value for value in vars(components).values() if isinstance(value, type) and is_dataclass(value)]
BUILDABLE = [owner for owner in COMPONENTS if owner not in (RewardReader, components.PolicyLossOutput)]


def through_json(value: object) -> Any:
    return json.loads(json.dumps(described(value)))


def component(owner: type) -> Any:
    try:
        return owner()
    except TypeError:
        return None


@pytest.mark.parametrize("owner", BUILDABLE, ids=lambda owner: owner.__name__)
def test_every_component_comes_back_equal(owner: type) -> None:
    value = component(owner)
    if value is not None:
        assert built(through_json(value), owner) == value
        assert described(value)["class_path"] == f"rairl_lightning.components.{owner.__name__}"
        changed = [f for f in fields(owner) if type(getattr(value, f.name)) is float]
        for one in changed[:1]:  # a value that is not the default must travel too
            other = replace(value, **{one.name: 0.9 * getattr(value, one.name) or 0.1})
            assert built(through_json(other), owner) == other != value


@pytest.mark.parametrize(
    "spec",
    [
        SharedBase(BackboneSpec("owner/name", quantisation="nf4"), LoRASpec(4, 8), LoRASpec(2, 4, 0.1, ["q", "v"])),
        SharedBase(BackboneSpec("owner/name"), head=TwoHeads(ExpectationHead(3), ExpectationHead(use_hidden=False))),
        TwoBackbones(
            BackboneSpec("a/b", revision="main"), BackboneSpec("c/d", dtype="bfloat16"), system_prompt="Be so."
        ),
        FullFineTuning(BackboneSpec("a/b", chat_template="{{ x }}"), activation_checkpointing=True),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_every_pair_comes_back_equal(spec: PairSpec) -> None:
    assert built(through_json(spec), PairSpec) == spec


def test_paths_do_not_depend_on_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert described(BackboneSpec("model"))["init_args"]["path"] == str(tmp_path / "model")
    assert described(BackboneSpec("owner/name"))["init_args"]["path"] == "owner/name"
    inside = described(SharedBase(BackboneSpec("builtin:dials")))
    assert inside["init_args"]["backbone"]["init_args"]["path"] == "builtin:dials"
    assert built(inside, PairSpec).backbone.path == str(ASSETS / "dials")


def test_an_argument_of_one_class_may_come_as_yaml_writes_it() -> None:
    given = {"critic": {"class_path": "rairl_lightning.components.SingleHead"}, "granularity": described(Interval(3))}
    reader = RewardReader(SingleHead(), Interval(3), components.ClippedLogit(), TokenWeighted())
    rest = {"reward": described(reader.reward), "pooling": described(reader.pooling)}
    assert built({**given, **rest}, RewardReader) == reader


@dataclass(frozen=True)
class Mine(Granularity):
    every: int = 2
    call: Any = field(default=None)

    def __call__(self, tokens: Any) -> Any:
        raise NotImplementedError


class Loose(Granularity):
    def __call__(self, tokens: Any) -> Any:
        raise NotImplementedError


def test_what_plain_values_cannot_say_is_refused() -> None:
    with pytest.raises(ConfigError, match="make it a frozen dataclass"):
        described(RewardReader(SingleHead(), Loose(), components.ClippedLogit(), TokenWeighted()))
    with pytest.raises(ConfigError, match="function"):
        described(Mine(call=lambda: None))


INTERVAL = "rairl_lightning.components.Interval"


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_path": INTERVAL, "init_args": {"evry": 3}},
        {"class_path": INTERVAL, "init_args": {"every": "3"}},
        {"class_path": INTERVAL, "init_args": {"every": True}},
        {"class_path": INTERVAL, "init_args": {"every": None}},
        {"class_path": INTERVAL, "init_args": {"every": {"class_path": INTERVAL}}},
        {"class_path": INTERVAL, "init_args": [3]},
        {"class_path": INTERVAL, "init_args": {}, "more": 1},
        {"class_path": "rairl_lightning.components.Minimum"},
        {"class_path": "rairl_lightning.components.Nothing"},
        {"class_path": "rairl_lightning.components.granularity.check_number"},
        {"class_path": "rairl_lightning.nowhere.Interval"},
        {"class_path": "rairl_lightning..Interval"},
        {"class_path": "rairl_lightning.components.Granularity"},
        {"class_path": 7},
        {},
        [],
        INTERVAL,
        None,
    ],
    ids=str,
)
def test_a_wrong_description_is_refused(wrong: Any) -> None:
    with pytest.raises(CheckpointError):
        built(wrong, Granularity)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(CheckpointError, match="backbone"):
        built({"class_path": "rairl_lightning.models.SharedBase", "init_args": {}}, PairSpec)


def test_a_constructor_still_judges() -> None:
    with pytest.raises(ConfigError, match="every"):
        built({"class_path": INTERVAL, "init_args": {"every": 0}}, Granularity)


# --- Other people's classes ---------------------------------------------------------------------------------------

TRAP = """
from dataclasses import dataclass
from pathlib import Path
from rairl_lightning.components import Pooling, TokenWeighted
Path({ran!r}).touch()
@dataclass(frozen=True)
class Trap(TokenWeighted):
    pass
"""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose import can be seen."""
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "__init__.py").write_text(TRAP.format(ran=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("strangers", None)


@pytest.mark.parametrize(
    "path", ["strangers.Trap", "os.system", "strangers.deeper.Trap", "rairl_lightning_strangers.Trap"]
)
def test_a_file_makes_us_import_nothing(trap: Path, path: str) -> None:
    with pytest.raises(CheckpointError, match="it was not imported") as caught:
        built({"class_path": path}, Pooling)
    assert not trap.exists() and "strangers" not in sys.modules
    assert "--plugins" in str(caught.value)
    nested = described(RewardReader(SingleHead(), Interval(3), components.ClippedLogit(), TokenWeighted()))
    nested["init_args"]["pooling"] = {"class_path": path}
    with pytest.raises(CheckpointError, match=r"RewardReader.pooling"):
        built(nested, RewardReader)
    assert not trap.exists()


def test_a_package_that_the_user_trusts_is_imported(trap: Path) -> None:
    value = built({"class_path": "strangers.Trap", "init_args": {}}, Pooling, plugins=["strangers"])
    assert type(value).__name__ == "Trap" and trap.exists(), "negative control: the trap works"
    assert built(described(value), Pooling, plugins=["strangers"]) == value
