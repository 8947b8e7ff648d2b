"""Where a command writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rairl_lightning.errors import ConfigError


def output_folder(folder: Path | str, files: Sequence[str], *, overwrite: bool) -> Path:
    """Make the folder a command writes to; nothing of another run is replaced unless that is asked for.

    Args:
        folder: ``--out``; made with its parents.
        files: names of all files the command writes, directly in ``folder``.
        overwrite: remove those that are there already.

    Raises:
        ConfigError: one of them is there, or ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError("The output is a folder.", expected="--out FOLDER", got=f"{folder}, which is a file")
    present = [folder / name for name in files if (folder / name).exists()]
    if present and not overwrite:
        raise ConfigError(
            "This would overwrite an earlier result.",
            expected=f"a folder without {', '.join(files)}",
            got=", ".join(map(str, present)),
            remedy="give another --out, or add --overwrite true",
        )
    for file in present:
        file.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
