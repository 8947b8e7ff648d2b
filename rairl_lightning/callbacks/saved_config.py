"""``config.yaml`` of a run: the whole configuration, and above it which code ran it, where and how."""

from __future__ import annotations

from datetime import UTC, datetime

from lightning import LightningModule, Trainer
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch.cli import SaveConfigCallback

from rairl_lightning.evaluation.provenance import provenance
from rairl_lightning.evaluation.run_folder import CONFIG
from rairl_lightning.text.visible import visible


class SavedConfig(SaveConfigCallback):
    """Writes it into the run's folder at the start of ``fit``; what evaluates a run leaves its configuration alone.

    It can be given as ``--config`` again. Above it, as comments: time and command, version and commit of the package,
    commit of the repository that the command was given in, versions and device.
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called in the first process only."""
        if stage != "fit":
            return
        root = str(trainer.default_root_dir)
        files = get_filesystem(root)
        files.makedirs(root, exist_ok=True)
        lines = [f"started {datetime.now(UTC).isoformat(timespec='seconds')}", *provenance()]
        with files.open(f"{root}/{CONFIG}", "w", encoding="utf-8") as file:
            file.writelines(f"# {visible(line)}\n" for line in lines)
            file.write(self.parser.dump(self.config, skip_none=False))
