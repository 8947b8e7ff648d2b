"""What happens around the rounds: recording, evaluating, saving, showing. Named in YAML by class path."""

from rairl_lightning.callbacks.adapter_checkpoint import AdapterCheckpoint
from rairl_lightning.callbacks.discriminator_probe import DiscriminatorProbe
from rairl_lightning.callbacks.evaluation_table import EvaluationTable
from rairl_lightning.callbacks.figures import Figures
from rairl_lightning.callbacks.final_report import FinalReport
from rairl_lightning.callbacks.health import Health
from rairl_lightning.callbacks.interrupt import InterruptCheckpoint
from rairl_lightning.callbacks.leak_probes import LeakProbes
from rairl_lightning.callbacks.localisation import Localisation
from rairl_lightning.callbacks.metrics_csv import MetricsCSV
from rairl_lightning.callbacks.progress import RoundProgress
from rairl_lightning.callbacks.reranking import Reranking
from rairl_lightning.callbacks.rollout_recorder import RolloutRecorder
from rairl_lightning.callbacks.trace_logger import TraceLogger

__all__ = [
    "AdapterCheckpoint",
    "DiscriminatorProbe",
    "EvaluationTable",
    "Figures",
    "FinalReport",
    "Health",
    "InterruptCheckpoint",
    "LeakProbes",
    "Localisation",
    "MetricsCSV",
    "Reranking",
    "RolloutRecorder",
    "RoundProgress",
    "TraceLogger",
]
