"""Reading what was trained: where it lies, what it is made of, and whether it fits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from rairl_lightning.components.description import FORMAT, REWARD_FILE, STATE_KEY, built
from rairl_lightning.components.reader import RewardReader
from rairl_lightning.data.question_hashes import QuestionHashes
from rairl_lightning.errors import CheckpointError, ConfigError
from rairl_lightning.evaluation.run_folder import config_of
from rairl_lightning.models.exports import load_policy_alone
from rairl_lightning.models.pair import ModelPair, PairSpec
from rairl_lightning.models.specs import BUILTIN, BackboneSpec

POLICY = "policy."  # of its tensors in a checkpoint
READER_KEYS = ("critic", "granularity", "reward", "pooling")


@dataclass(frozen=True)
class Artefact:
    """A trained reward, or a policy alone, on disk, with nothing loaded yet.

    Attributes:
        path: the checkpoint, or the folder of adapters.
        spec: how its models are made.
        reader: how the discriminator is read; None of a baseline.
        identity: fingerprints of ``base`` and ``codec``, as far as they were recorded.
        trained_on: questions; empty where that was not recorded.
        state: the checkpoint's tensors by ``<role>.<name>``, mapped from the file; None of a folder.
    """

    path: Path
    spec: PairSpec
    reader: RewardReader | None
    identity: Mapping[str, Any]
    trained_on: QuestionHashes = field(default=QuestionHashes())
    state: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @classmethod
    def read(
        cls,
        path: Path | str,
        config: Path | str | None = None,
        plugins: Sequence[str] = (),
        *,
        needs_reward: bool = True,
    ) -> Artefact:
        """Find and check; arguments and errors as :meth:`TrainedReward.load`.

        Args:
            path: see there.
            config: see there.
            plugins: see there.
            needs_reward: False also takes a baseline, which has a policy alone.
        """
        place = _located(Path(path))
        record, state = _folder(place, needs_reward) if place.is_dir() else _checkpoint(place, needs_reward)
        parts = record if config is None else _configured(Path(config), needs_reward)
        if "undescribed" in parts or "pair" not in parts:
            raise _undescribed(place, parts)
        if needs_reward and parts.get("reader") is None:
            raise _no_reward(place)
        if record.get("format", FORMAT) not in range(FORMAT + 1):
            raise CheckpointError(
                f"{place} was written by a newer version.",
                expected=f"format {FORMAT} or older",
                got=f"format {record['format']}, by version {record.get('version')}",
                remedy="update rairl_lightning",
            )
        spec = built(parts["pair"], PairSpec, plugins)  # type: ignore[type-abstract]
        reader = None if parts.get("reader") is None else built(parts["reader"], RewardReader, plugins)
        return cls(place, spec, reader, record, QuestionHashes.unpacked(record.get("trained_on")), state)

    def with_backbone(self, path: str | None) -> Artefact:
        """The same over the base model at ``path``; itself for None.

        Raises:
            ConfigError: there are two backbones.
        """
        if path is None:
            return self
        names = [name for name, _ in self.backbones()]
        if len(names) != 1:
            raise ConfigError(
                "This reward has a backbone for each player; one path cannot name both.",
                expected="one backbone",
                got=", ".join(names),
                remedy=f"give --run_config with the run's config.yaml, edited in {' and '.join(names)}",
            )
        backbone = replace(getattr(self.spec, names[0]), path=path)
        return replace(self, spec=replace(self.spec, **{names[0]: backbone}))  # type: ignore[type-var]

    @property
    def reward_reader(self) -> RewardReader:
        """How the discriminator is read.

        Raises:
            CheckpointError: there is none.
        """
        if self.reader is None:
            raise _no_reward(self.path)
        return self.reader

    def unquantised(self) -> Artefact:
        """The same over the base model in its full precision, which has no recorded fingerprint; itself if it is."""
        full = {name: replace(one, quantisation=None) for name, one in self.backbones() if one.quantisation}
        if not full:
            return self
        identity = {name: value for name, value in self.identity.items() if name != "base"}
        return replace(self, spec=replace(self.spec, **full), identity=identity)  # type: ignore[type-var]

    def build(self, device: torch.device | str, *, policy_alone: bool = False) -> ModelPair:
        """Load the models; what is cheap to refuse is refused first.

        Args:
            device: where to.
            policy_alone: leave out the discriminator, where there is one.
        """
        self._check_backbones()
        self._check("codec", self.spec.load_codec().fingerprint)
        pair = self.spec.build(device, with_discriminator=not policy_alone)
        recorded = self.identity.get("base")
        alone = isinstance(recorded, str) and policy_alone and recorded.partition("-")[0] == pair.base_fingerprint
        self._check("base", str(recorded) if alone else pair.base_fingerprint)
        if self.state is None and policy_alone:
            load_policy_alone(pair, self.path)
        elif self.state is None:
            pair.load_adapters(self.path)
        elif policy_alone:
            own = {name.removeprefix(POLICY): t for name, t in self.state.items() if name.startswith(POLICY)}
            pair.load_adapter_state("policy", own)
        else:
            pair.load_roles(self.state)
        return pair

    def backbones(self) -> list[tuple[str, BackboneSpec]]:
        """The base models by the name of their field: one, or one a player."""
        names: list[str] = [item.name for item in fields(self.spec)] if is_dataclass(self.spec) else []
        return [(name, value) for name in names if isinstance(value := getattr(self.spec, name), BackboneSpec)]

    def _check_backbones(self) -> None:
        for name, backbone in self.backbones():
            if Path(backbone.path).is_absolute() and not Path(backbone.path).is_dir():
                raise CheckpointError(
                    "The base model of this reward is not where it was in training.",
                    expected=f"{name} at {backbone.path}",
                    got="no folder there",
                    remedy=f"--backbone FOLDER says where it is now ({BUILTIN}… and hub ids work too)",
                )

    def _check(self, what: str, found: str) -> None:
        meaning = {"codec": "another tokenizer, chat template or system prompt", "base": "another base model"}[what]
        recorded = self.identity.get(what)
        if recorded not in (None, found):
            raise CheckpointError(
                f"This reward was trained with {meaning}: its scores would mean nothing here.",
                expected=f"{what} {recorded}",
                got=f"{what} {found}",
                remedy="--backbone FOLDER names the model, of the same revision and precision, it was trained on",
            )


def _located(path: Path) -> Path:
    """The checkpoint or folder of adapters that ``path`` means."""
    candidates = [path / "checkpoints" / "last.ckpt", path / "last.ckpt", path / "adapters", path]
    if path.is_file():
        return path
    for place in candidates if path.is_dir() else []:
        if place.is_file() or any((place / name).exists() for name in (REWARD_FILE, "discriminator", "policy")):
            return place
    raise CheckpointError(
        f"There is no trained reward in {path}.",
        expected="a run's folder with checkpoints/last.ckpt or adapters/, a .ckpt, or an exported folder",
        got=sorted(one.name for one in path.iterdir())[:8] if path.is_dir() else "nothing at this path",
        remedy="train one: rairl fit --config configs/quickstart.yaml",
    )


def _folder(folder: Path, needs_reward: bool) -> tuple[Mapping[str, Any], None]:
    if needs_reward and not (folder / "discriminator").is_dir():
        raise _no_reward(folder)
    file = folder / REWARD_FILE
    if not file.is_file():
        return {}, None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, error) from error
    if not isinstance(record, dict):
        raise _unreadable(file, type(record).__name__)
    return record, None


def _checkpoint(file: Path, needs_reward: bool) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        saved, state = checkpoint[STATE_KEY], checkpoint["state_dict"]
        record = {"base": saved["base"], **saved.get("artefact", {})}
    except (RuntimeError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise _unreadable(file, str(error).partition("\n")[0]) from error
    if needs_reward and not any(name.startswith("discriminator.") for name in state):
        raise _no_reward(file)
    return record, state


def _configured(file: Path, needs_reward: bool) -> Mapping[str, Any]:
    """Pair and reader out of a run's configuration."""
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["init_args"]
        if not needs_reward:
            return {"pair": given["pair"]}
        reader = {key: given[key] for key in READER_KEYS}
        return {"pair": given["pair"], "reader": reader}
    except OSError as error:
        remedy = "--run_config names the config.yaml in the folder of the run"
        raise ConfigError(f"{file} cannot be read.", got=error, remedy=remedy) from error
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} does not say what the reward is made of.",
            expected=f"model.init_args with pair, {', '.join(READER_KEYS)}",
            got=f"{type(error).__name__}: {error}",
            remedy="give the config.yaml that R-AIRL's training wrote into its run's folder, which names every default",
        ) from error


def _undescribed(place: Path, parts: Mapping[str, Any]) -> CheckpointError:
    beside = (config_of(folder) for folder in (place.parent, place.parent.parent))
    near = next((file for file in beside if file is not None), "runs/…/config.yaml, of the run that made it")
    return CheckpointError(
        f"{place} does not say what its reward is made of.",
        expected="a description of models and reader, as runs write now",
        got=parts.get("undescribed", "an older checkpoint"),
        remedy=f"add --run_config {near}",
    )


def _no_reward(place: Path) -> CheckpointError:
    return CheckpointError(
        f"{place} holds no reward: it has no discriminator.",
        expected="what R-AIRL trained",
        got="a baseline (SFT or GRPO), which learns no reward",
        remedy="name a run of model.class_path: rairl_lightning.module.RAIRL",
    )


def _unreadable(file: Path, got: object) -> CheckpointError:
    return CheckpointError(
        f"{file} cannot be read as a trained reward.",
        expected="a checkpoint or an exported folder of rairl_lightning",
        got=got,
        remedy="name one from a run's folder",
    )
