"""Where the curves of a run go if the user names no logger."""

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger

from rairl_lightning.callbacks.metrics_csv import MetricsCSV
from rairl_lightning.evaluation.run_folder import LOGS


def default_loggers(root: str, command: str) -> list[Logger]:
    """TensorBoard, and the same as a table beside it unless the folder is remote.

    Args:
        root: the run's folder.
        command: ``fit`` has ``logs`` to itself, so that a run that goes on is one run; the others a folder in it each.
    """
    name = LOGS if command == "fit" else f"{LOGS}/{command}"
    tensorboard = TensorBoardLogger(root, name, version="", default_hp_metric=False)
    return [tensorboard] if "://" in root else [tensorboard, MetricsCSV(root, name)]
