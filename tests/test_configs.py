"""Every YAML we ship parses through our command line, builds its objects, and has no key that nothing reads."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from rairl_lightning.callbacks.hyperparameters import NUMBERS, TEXTS, settings_of
from rairl_lightning.cli_parser import RAIRLCLI, ROOMS
from rairl_lightning.data.datamodule import DemonstrationDataModule
from rairl_lightning.errors import ConfigError
from rairl_lightning.module import RAIRL
from rairl_lightning.rollouts import vllm

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
BASES = sorted(CONFIGS.glob("*.yaml"))
DATA, MODELS, GRIDS, HARDWARE, REWARDS, SAMPLERS = (
    sorted((CONFIGS / folder).glob("*.yaml"))
    for folder in ("data", "model", "granularity", "hardware", "reward", "sampler")
)
CARDS = [CONFIGS / "hardware" / f"{size}gb.yaml" for size in (12, 24, 80)]  # of one GPU, by its memory
SMOLLM2, CPU = CONFIGS / "model" / "smollm2_135m.yaml", CONFIGS / "hardware" / "cpu.yaml"
SHORT = {"gsm8k": "rairl", "gsm8k_sft": "sft", "gsm8k_grpo": "grpo"}
SHORT = {CONFIGS / f"{base}.yaml": CONFIGS / "short" / f"{algorithm}.yaml" for base, algorithm in SHORT.items()}
BASE, *BASELINES = SHORT  # overlays are written for these
PRESET_LINES = 10  # of an overlay, comments aside
KINDS = (DATA, MODELS, HARDWARE, GRIDS, SAMPLERS)
TOGETHER = [[kind[i % len(kind)] for kind in KINDS] for i in range(max(map(len, KINDS)))]
STACKS = [
    *([one] for one in BASES),
    *([BASE, *kinds] for kinds in TOGETHER),
    *([BASELINES[i % 2], *kinds[:3]] for i, kinds in enumerate(TOGETHER)),
    [CONFIGS / "gsm8k_grpo.yaml", *SAMPLERS],
    *([on, SMOLLM2, CPU, SHORT[on]] for on in SHORT),
    *([BASE, CONFIGS / "model" / one.name, CPU, one] for one in REWARDS),
]
"""Each overlay with one of every other kind, on R-AIRL and on a baseline: to parse a stack takes a second."""
ALONE = [[BASE, one] for kind in KINDS for one in kind]
"""None needs another: what a stack above does not show."""


class Built(RAIRLCLI):
    """Parses and builds, and runs nothing; of the commands it knows ``fit`` alone, the others' parsers take as long."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": RAIRLCLI.subcommands()["fit"]}

    def _set_seed(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def build(*files: Path, extra: tuple[str, ...] = ()) -> Built:
    for room in ROOMS:
        import_module(f"rairl_lightning.{room}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the Trainer, about this machine
        return Built(DemonstrationDataModule, ["fit", *(f"--config={file}" for file in files), *extra])


@cache
def built(*files: Path) -> Built:
    """The same, for those that only look."""
    return build(*files)


def missing(written: Any, read: Any, path: str = "") -> Iterator[str]:
    """Paths of what is written in a YAML file and not, or differently, in the parsed configuration."""
    if isinstance(written, Mapping):
        for key, value in written.items():
            yield from (missing(value, read[key], f"{path}.{key}") if key in read else [f"{path}.{key}"])
    elif isinstance(written, list) and isinstance(read, list | tuple) and len(written) == len(read):
        for index, (value, other) in enumerate(zip(written, read, strict=True)):
            yield from missing(value, other, f"{path}[{index}]")
    elif isinstance(written, str) and isinstance(read, Mapping) and "class_path" in read:  # a class by its short name
        yield from [] if read["class_path"].endswith(f".{written}") else [f"{path}: {written!r} became {read!r}"]
    elif written != read and not (isinstance(written, list) and written == list(read)):
        yield f"{path}: {written!r} became {read!r}"


def as_dict(cli: Built) -> dict[str, Any]:
    return cli.config_dump  # Lightning's own, from before it built the model: a second one would take as long


def load(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def merged(first: Any, then: Any) -> Any:
    """What two files say together: the later wins, and another class brings its own arguments."""
    if not (isinstance(first, Mapping) and isinstance(then, Mapping)):
        return then
    if "class_path" in then and then["class_path"] != first.get("class_path"):
        return then
    return {**first, **{key: merged(first.get(key), value) for key, value in then.items()}}


def test_there_is_something_to_check() -> None:
    assert {*BASES} >= {CONFIGS / "quickstart.yaml", *SHORT} and MODELS and HARDWARE
    used = {file for files in STACKS for file in files}
    assert used == set(CONFIGS.rglob("*.yaml")), "a file that no stack reads is not checked"


@pytest.mark.parametrize(
    "files",
    [*STACKS, *(pytest.param(files, marks=pytest.mark.slow) for files in ALONE)],
    ids=lambda files: "+".join(one.stem for one in files),
)
def test_a_configuration_builds_its_objects_and_keeps_every_key(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a run folder is relative
    monkeypatch.setattr(vllm, "installed", lambda: True)
    cli = built(*files)
    kind = load(files[0])["model"]["class_path"].rpartition(".")[2]
    assert type(cli.model).__name__ == kind and cli.model.pair is None, "no weights were loaded"
    assert isinstance(cli.datamodule, DemonstrationDataModule)
    last = [one for one in map(load, files) if "callbacks" in one.get("trainer", {})][-1]  # an overlay replaces all
    named = [one["class_path"].split(".")[-1] for one in last["trainer"]["callbacks"]]
    assert set(named) <= {type(one).__name__ for one in cli.trainer.callbacks}
    assert list(missing(reduce(merged, map(load, files)), as_dict(cli))) == []


@pytest.mark.parametrize(
    "file", [*DATA, *MODELS, *GRIDS, *CARDS, *SAMPLERS], ids=lambda one: f"{one.parent.name}/{one.stem}"
)
def test_a_preset_is_short_and_says_what_it_is(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# Overlay")
    assert len([line for line in lines if not line.lstrip().startswith("#")]) <= PRESET_LINES


@pytest.mark.parametrize("file", CARDS, ids=lambda one: one.stem)
def test_every_value_of_a_card_says_where_it_is_from(file: Path) -> None:
    values = [
        line for line in file.read_text().splitlines() if re.search(r": .*\d", line) and "discriminator" not in line
    ]
    assert len(values) == 4, "the head line, the adapters, rows, tokens"
    assert all("paper: " in line or "ours: " in line for line in values if not line.startswith("#"))


def test_presets_of_one_kind_undo_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The later wins wholly: nothing of an earlier data set or granularity stays behind."""
    monkeypatch.chdir(tmp_path)
    first, last = ([kind[place] for kind in (DATA, GRIDS)] for place in (0, -1))
    alone, after = as_dict(build(BASE, *last)), as_dict(build(BASE, *first, *last))
    assert alone["model"] == after["model"] and alone["data"]["source"] == after["data"]["source"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("group_size:", "group_sise:"),
        ("perturbed_copies:", "perturbed_copy:"),
        ("until_auroc:", "until_auroc_is:"),
        ("max_new_tokens:", "max_tokens:"),
        ("every_n_updates:", "every_n_update:"),
    ],
)
def test_an_unknown_key_is_refused_at_any_depth(tmp_path: Path, old: str, new: str) -> None:
    text = (CONFIGS / "quickstart.yaml").read_text()
    assert old in text
    (tmp_path / "wrong.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError):
        build(tmp_path / "wrong.yaml")


def test_a_key_that_was_dropped_or_changed_would_be_noticed() -> None:
    assert list(missing({"a": {"b": 1}, "c": [2]}, {"a": {"b": 2}, "c": [2]})) == [".a.b: 1 became 2"]
    assert list(missing({"a": {"b": 1}}, {"a": {}})) == [".a.b"]
    assert list(missing(["Dense"], [{"class_path": "x.Dense"}])) == []
    assert list(missing(["Dense"], [{"class_path": "x.Sparse"}])) != []
    mine = {"a": {"class_path": "A", "init_args": {"b": 1, "c": 1}}, "d": [1]}
    assert merged(mine, {"a": {"init_args": {"b": 2}}, "d": [2]}) == {
        "a": {"class_path": "A", "init_args": {"b": 2, "c": 1}},
        "d": [2],
    }
    assert merged(mine, {"a": {"class_path": "B"}})["a"] == {"class_path": "B"}


def test_a_column_of_the_hparams_tab_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is renamed would be an empty column."""
    monkeypatch.chdir(tmp_path)
    known = {key for one in (*SHORT, CONFIGS / "quickstart.yaml") for key in settings_of(as_dict(built(one)))}
    assert known == {*NUMBERS, *TEXTS}


# --- Knobs --------------------------------------------------------------------------------------------------------


def class_paths(value: Any) -> Iterator[tuple[str, list[str]]]:
    """Every class of ours named in a YAML value, with the arguments it is given."""
    if isinstance(value, Mapping):
        path = str(value.get("class_path", ""))
        if path.startswith("rairl_lightning."):
            yield path, list(value.get("init_args", {}))
        for item in value.values():
            yield from class_paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from class_paths(item)


def named_classes() -> set[type]:
    paths = {path for file in CONFIGS.rglob("*.yaml") for path, _ in class_paths(load(file))}
    return {getattr(import_module(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in paths}


class Reads(ast.NodeVisitor):
    """Names that code makes use of: attributes read outside of constructors, and arguments used inside of them."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.inside = self.inside, node.name in ("__init__", "__post_init__")
        self.generic_visit(node)
        self.inside = outer

    def visit_Attribute(self, node: ast.Attribute) -> None:
        own = isinstance(node.value, ast.Name) and node.value.id == "self"
        if isinstance(node.ctx, ast.Load) and not (self.inside and own):
            self.names.add(node.attr)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        stored = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for value in stored if self.inside else [node.value]:
            if not (self.inside and isinstance(value, ast.Name)):  # `self.x = x` alone reads nothing
                self.visit(value)

    def visit_Name(self, node: ast.Name) -> None:
        if self.inside and isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass  # nor does an error message

    def visit_If(self, node: ast.If) -> None:
        for part in [*node.body, *node.orelse] if self.inside else [node.test, *node.body, *node.orelse]:
            self.visit(part)  # nor does a check


def reads(source: str) -> set[str]:
    visitor = Reads()
    visitor.visit(ast.parse(source))
    return visitor.names


def knobs(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs")]


@pytest.fixture(scope="module")
def used() -> set[str]:
    files = (ROOT / "rairl_lightning").rglob("*.py")
    return set().union(*(reads(file.read_text()) for file in files))


@pytest.mark.parametrize(
    "cls", sorted({*named_classes(), RAIRL, DemonstrationDataModule}, key=lambda one: one.__name__)
)
def test_no_knob_is_dead(cls: type, used: set[str]) -> None:
    assert [name for name in knobs(cls) if name not in used] == []


def test_a_dead_knob_would_be_noticed() -> None:
    alive = "class A:\n def __init__(self, x):\n  self.x = x\n def f(self):\n  return self.x"
    dead = "class A:\n def __init__(self, x):\n  if x < 1:\n   raise ValueError(x)\n  self.x, self.y = x, 1"
    assert "x" in reads(alive) and "x" not in reads(dead)
