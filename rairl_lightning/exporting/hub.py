"""Putting an export on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from rairl_lightning.errors import ConfigError, ModelError


def check_repository(name: str) -> None:
    """Refuse a name that the hub would not take, before anything is loaded.

    Raises:
        ConfigError: it is none.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(
            "This is no name of a repository on the hub.",
            expected="--push_to_hub OWNER/NAME",
            got=f"{name}: {str(error).partition(chr(10))[0]}",
        ) from error


def push(folder: Path, files: Sequence[str], name: str, *, private: bool, message: str) -> str:
    """Upload an export; the token is that of ``hf auth login``.

    Args:
        folder: of the export.
        files: of it; nothing else in the folder is uploaded.
        name: ``owner/name``; made if it is not there.
        private: whether a repository that is made is private.
        message: of the commit.

    Returns:
        Its address.

    Raises:
        ModelError: the hub cannot be reached, or refuses.
    """
    api = HfApi(library_name="rairl_lightning")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(files), commit_message=message)
    except (HfHubHTTPError, OSError, ValueError) as error:  # no network, no token, no right
        raise ModelError(
            f"The export was not uploaded to {name}; it lies in {folder}.",
            got=str(error).partition("\n")[0],
            remedy="check the network and `hf auth login`, then `hf upload` the folder, or export again",
        ) from error
    return str(done)
