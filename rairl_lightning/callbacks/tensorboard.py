"""What TensorBoard is told besides scalars: where a run goes on, and the rows and columns of its HPARAMS tab.

By the tab's own messages, since of ``SummaryWriter.add_hparams`` the first run's columns are everybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.core.saving import load_hparams_from_yaml, save_hparams_to_yaml
from lightning.pytorch.loggers import TensorBoardLogger


def begin_at(logger: TensorBoardLogger, step: int) -> None:
    """Make TensorBoard forget what an earlier start logged in this folder at this step and later.

    Args:
        logger: of the run, in the first process.
        step: the first that is logged from now on, >= 0.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    logger.experiment.file_writer.add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))


def write_session(
    logger: TensorBoardLogger,
    settings: Mapping[str, float | str],
    numbers: Sequence[str],
    texts: Sequence[str],
    metrics: Sequence[str],
) -> None:
    """Write a row of the HPARAMS tab, and which columns there are, unless an earlier start did in this folder.

    Args:
        logger: of the run, in the first process.
        settings: of this run by column, at least one; one that it lacks is blank. They go to ``hparams.yaml`` too.
        numbers: columns that hold numbers.
        texts: columns that hold text.
        metrics: names of scalars, whose last values are shown.
    """
    file = Path(logger.log_dir, logger.NAME_HPARAMS_FILE)
    known = load_hparams_from_yaml(file) if file.is_file() else {}  # Lightning's own: what a model saved by itself
    if settings.keys() <= known.keys():
        return
    save_hparams_to_yaml(file, {**known, **settings})
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2

    kinds = (("DATA_TYPE_FLOAT64", numbers), ("DATA_TYPE_STRING", texts))
    columns = [
        api_pb2.HParamInfo(name=name, type=api_pb2.DataType.Value(kind)) for kind, names in kinds for name in names
    ]
    shown = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name)) for name in metrics]
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=shown)
    _write(logger, metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment))
    row = summary_v2.hparams_pb(dict(settings), trial_id=str(Path(logger.log_dir).resolve()))
    logger.experiment.file_writer.add_summary(row)


def write_session_end(logger: TensorBoardLogger) -> None:
    """Write that the run came to its end."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value("STATUS_SUCCESS"))
    _write(logger, metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))


def _write(logger: TensorBoardLogger, tag: str, content: Any) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    about = metadata.create_summary_metadata(content)
    value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    logger.experiment.file_writer.add_summary(Summary(value=[value]))
