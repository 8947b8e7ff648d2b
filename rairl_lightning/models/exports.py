"""The players as folders that others read without this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rairl_lightning.errors import CheckpointError
from rairl_lightning.functional.processes import rank
from rairl_lightning.models.policy import Policy

if TYPE_CHECKING:
    from rairl_lightning.models.pair import ModelPair, Player

MODEL = "model."
ADAPTER_NAME = ".default."  # PEFT's name for the only adapter, which its files leave out


def save_players(pair: ModelPair, folder: Path) -> None:
    """See :meth:`ModelPair.save_adapters`.

    Raises:
        CheckpointError: the files cannot be written.
    """
    try:
        _write_players(pair, folder)
    except SafetensorError as error:  # not an OSError, whatever the disk said
        raise CheckpointError(
            f"The adapters could not be written to {folder}.",
            got=error,
            remedy="free some space; the checkpoints of the run are whole",
        ) from error


def _write_players(pair: ModelPair, folder: Path) -> None:
    states = {player: pair.adapter_state(player) for player in pair.players}  # gathered by all processes
    if rank() != 0:
        return
    for player, state in states.items():
        model = getattr(pair, player).model
        # Where the model holds shards its own state is not to be written; PEFT and transformers take another.
        of_model = {name.removeprefix(MODEL): tensor for name, tensor in state.items() if name.startswith(MODEL)}
        given = {"state_dict": of_model} if pair.policy.sharded else {}
        if isinstance(model, PeftModel):
            # "auto" would ask the hub whether the vocabulary was resized.
            model.save_pretrained(folder / player, save_embedding_layers=False, **given)
        else:
            model.save_pretrained(folder / player, **given)
    pair.codec.tokenizer.save_pretrained(folder / "policy")
    if "discriminator" in states:
        beside = _beside_the_model(states["discriminator"])
        save_file(beside, folder / "discriminator" / "head.safetensors", metadata={"format": "pt"})


def adapter_rank(policy: Policy) -> int | None:
    """Rank of the policy's adapter; None if it trains all its weights."""
    return int(policy.model.peft_config["default"].r) if isinstance(policy.model, PeftModel) else None


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write the policy's adapter in PEFT's layout; the folder is there whole or not at all.

    Args:
        policy: with an adapter, not in shards.
        folder: does not exist.

    Raises:
        CheckpointError: the files cannot be written.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        policy.model.save_pretrained(part, save_embedding_layers=False)
        part.rename(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The adapter could not be written to {folder}.", got=error, remedy="free some space there"
        ) from error


def load_players(pair: ModelPair, folder: Path) -> None:
    """See :meth:`ModelPair.load_adapters`."""
    states = {player: _read(pair, player, folder) for player in pair.players}
    for player, state in states.items():
        pair.load_adapter_state(player, state)


def load_policy_alone(pair: ModelPair, folder: Path) -> None:
    """Read the policy of what :func:`save_players` wrote, and no other player.

    Raises:
        CheckpointError: a file or key is missing, or does not fit.
    """
    pair.load_adapter_state("policy", _read(pair, "policy", folder))


def _read(pair: ModelPair, player: Player, folder: Path) -> dict[str, Tensor]:
    file = "adapter_model.safetensors" if pair.adapters_only else "model.safetensors"
    own = [name for name in pair.adapter_state(player) if name.startswith(MODEL)]
    names = {name.removeprefix(MODEL).replace(ADAPTER_NAME, "."): name for name in own}
    state = {names.get(key, key): tensor for key, tensor in _load(folder / player / file).items()}
    return state | (_load(folder / player / "head.safetensors") if player == "discriminator" else {})


def _beside_the_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head, and a language-model head that is trained but not tied to the decoder's embedding."""
    return {name: tensor.contiguous() for name, tensor in state.items() if not name.startswith(MODEL)}


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} cannot be read.",
            expected="a folder written by save_adapters",
            got=error,
            remedy="give the folder that holds policy/ and, for R-AIRL, discriminator/",
        ) from error
