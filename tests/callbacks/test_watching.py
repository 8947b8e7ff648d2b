"""What a run shows: curves, figures, texts and settings, read back from TensorBoard, CSV and a stand-in for W&B."""

from __future__ import annotations

import io
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gates
import matplotlib.pyplot as plt
import pytest
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.plugins.hparams import metadata
from watching import CONFIG, Watched, events, scalars, table, watch

from rairl_lightning.algorithms.phases import Warmup
from rairl_lightning.callbacks import Figures, Reranking
from rairl_lightning.callbacks import hyperparameters as hp
from rairl_lightning.callbacks.onlooker import Behind
from rairl_lightning.callbacks.showing import show_figure, show_text, shows_figures
from rairl_lightning.callbacks.tensorboard import begin_at
from rairl_lightning.errors import ConfigError

Curves = dict[str, list[tuple[int, float]]]
PICTURES = ["reranking", "reliability", "rewards/1", "rewards/2"]
FIRST, LAST = 3, 5
"""Steps of the second and the fourth round: two of the warm-up come before."""


@dataclass(frozen=True)
class Runs:
    whole: Watched
    before: Path
    """Its folder as it was before it was resumed from the second round."""
    resumed: Watched


@pytest.fixture(scope="module")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("watched")
    whole = watch(base, folder / "run")
    before = shutil.copytree(folder / "run", folder / "before")
    resumed = watch(base, folder / "run", folder / "run" / "checkpoints" / "round-000002.ckpt")
    return Runs(whole, before, resumed)


# --- Curves -------------------------------------------------------------------------------------------------------


def agree(first: Curves, second: Curves) -> bool:
    """The same values at the same steps; what is logged twice at a step counts as it was last."""
    if first.keys() != second.keys():
        return False
    return all(dict(first[tag]) == pytest.approx(dict(second[tag]), rel=1e-6) for tag in first)


def test_the_table_has_what_tensorboard_has(runs: Runs) -> None:
    curves = scalars(runs.before / "logs")
    assert {"reward/mean", "health/level", "selection/rerank/reward", "hp/rerank/reward", "epoch"} <= curves.keys()
    assert [step for step, _ in curves["selection/rerank/reward"]] == [FIRST, LAST]
    found = table(runs.before / "logs")
    assert agree(found, curves)
    found["reward/mean"][1] = (found["reward/mean"][1][0], found["reward/mean"][1][1] + 1e-4)
    assert not agree(found, curves), "negative control"


def test_a_resumed_run_is_one_run(runs: Runs) -> None:
    whole, resumed = scalars(runs.before / "logs"), scalars(runs.whole.folder / "logs")
    assert len(list((runs.whole.folder / "logs").glob("events.*"))) == 2
    for tag, points in resumed.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), f"{tag}: a step twice"
    untimed = [tag for tag in whole if not tag.startswith(("time/", "tokens_per_second/"))]
    assert all(resumed[tag] == whole[tag] for tag in untimed if not tag.startswith("hp/")), "the run that did not stop"
    assert agree(table(runs.whole.folder / "logs"), resumed)


@pytest.mark.parametrize("told", [True, False])
def test_tensorboard_is_told_where_a_run_goes_on(told: bool, tmp_path: Path) -> None:
    for start in (0, 3):
        logger = TensorBoardLogger(tmp_path, "logs", version="")
        if told:
            begin_at(logger, start)
        for step in range(start, start + 5):
            logger.log_metrics({"loss": float(10 * start + step)}, step)
        logger.finalize("success")
    steps = [step for step, _ in scalars(tmp_path / "logs")["loss"]]
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7] if told else steps == [0, 1, 2, 3, 4, 3, 4, 5, 6, 7], "a negative control"


# --- Settings -----------------------------------------------------------------------------------------------------


def session(folder: Path) -> tuple[Any, Any, Any]:
    found = events(folder).summary_metadata
    contents = [found[tag].plugin_data.content for tag in (metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG)]
    end = found[metadata.SESSION_END_INFO_TAG].plugin_data.content
    return (
        metadata.parse_experiment_plugin_data(contents[0]),
        metadata.parse_session_start_info_plugin_data(contents[1]),
        metadata.parse_session_end_info_plugin_data(end),
    )


def test_the_settings_are_a_row_of_the_hparams_tab(runs: Runs) -> None:
    experiment, start, end = session(runs.before / "logs")
    columns = [one.name for one in experiment.hparam_infos]
    assert columns == [*hp.NUMBERS, *hp.TEXTS] and len(set(columns)) == len(columns)
    told = {name: value.number_value or value.string_value for name, value in start.hparams.items()}
    assert told == {
        "seed_everything": 7,
        "model": "RAIRL",
        "model.group_size": 4,
        "model.policy_optimizer.lr": 1e-3,
        "model.granularity": "Interval(every=15)",
        "data.perturbations": "OperatorFlip, NumberCorruption",
    }
    tags = [one.name.tag for one in experiment.metric_infos]
    logged = {tag for tag in scalars(runs.before / "logs") if tag.startswith("hp/")}
    assert logged <= set(tags) and set(tags) - logged == {"hp/pass@1", "hp/best/pass@1"}, "there is no validation here"
    assert not any("test" in tag for tag in tags), "nobody is to choose by the test split"
    assert end.status == 1, "success"
    assert yaml.safe_load((runs.before / "logs" / "hparams.yaml").read_text()) == hp.settings_of(CONFIG) == told


def test_the_last_and_the_best_figures_are_kept(runs: Runs) -> None:
    curves = scalars(runs.before / "logs")
    for name in ("rerank/random", "rerank/reward", "localise/reward_step"):
        values = [value for _, value in curves[f"selection/{name}"]]
        assert curves[f"hp/{name}"][-1][1] == values[-1] and curves[f"hp/best/{name}"][-1][1] == max(values)
    best = runs.resumed.trainer.callback_metrics["hp/best/rerank/random"]
    assert best == pytest.approx(curves["hp/best/rerank/random"][-1][1]), "also of before the run was resumed"


def test_a_resumed_run_is_described_once(runs: Runs) -> None:
    files = sorted((runs.whole.folder / "logs").glob("events.*"))
    told = [[tag for tag in events(file).Tags()["tensors"] if tag.startswith("_hparams_/s")] for file in files]  # type: ignore[arg-type]
    assert told == [[metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG], [metadata.SESSION_END_INFO_TAG]]


# --- Figures and texts --------------------------------------------------------------------------------------------


def test_every_evaluation_has_its_figures(runs: Runs) -> None:
    read = events(runs.before / "logs")
    assert sorted(read.Tags()["images"]) == sorted(PICTURES)
    for tag in PICTURES:
        shown = read.Images(tag)
        assert [one.step for one in shown] == [FIRST, LAST]
        assert all(300 < one.width < 1200 and 200 < one.height < 1600 for one in shown)
        assert all(len(one.encoded_image_string) < 200_000 for one in shown)
        colours = Image.open(io.BytesIO(shown[0].encoded_image_string)).convert("RGB").getcolors(1 << 20)
        assert colours is not None and len(colours) > 8, "something is drawn"
    assert plt.get_fignums() == []


def test_a_logger_with_the_methods_of_wandb_gets_the_same(runs: Runs) -> None:
    wandb = runs.whole.wandb
    assert [(name, step) for name, _, step in wandb.images] == [(name, at) for at in (FIRST, LAST) for name in PICTURES]
    assert all(len(one) == 1 and isinstance(one[0], Figure) for _, one, _ in wandb.images)
    (name, columns, rows, step), _ = wandb.tables
    assert (name, step) == ("traces", FIRST) and columns[:4] == ["id", "source", "reward", "correct"]
    assert [row[1] for row in rows] == ["expert", "policy"] * 3
    assert wandb.hyperparameters == [hp.settings_of(CONFIG)]
    assert runs.whole.notes.rows == wandb.rows, "a logger that takes neither has its scalars"


def test_traces_can_be_read(runs: Runs) -> None:
    shown = events(runs.before / "logs").Tensors("traces/text_summary")
    assert [one.step for one in shown] == [FIRST, LAST]
    text = shown[-1].tensor_proto.string_val[0].decode()
    rows = runs.whole.wandb.tables[-1][2]
    for identity, source, reward, correct, prompt, completion in rows:
        assert f"### {identity}\n\n> {prompt}" in text and completion in text
        verdict = "" if source == "expert" else f" · {'right' if correct else 'wrong'}"
        assert f"**{source.capitalize()}** · reward {reward:+.2f}{verdict}" in text


def test_the_heat_map_has_expert_policy_and_perturbed_of_one_question(runs: Runs) -> None:
    (figure,) = next(images for name, images, _ in runs.whole.wandb.images if name == "rewards/1")
    lines = [one.get_text() for one in figure.axes[0].texts]
    assert lines[0] == "gate 8"
    titles = [line for line in lines if line.startswith(("Expert ·", "Policy ·", "Perturbed, "))]
    assert [title.split()[0] for title in titles] == ["Expert", "Policy", "Perturbed,"]


def test_figures_keep_to_their_number(runs: Runs) -> None:
    row = runs.whole.trainer.callbacks
    reranking = next(one for one in row if isinstance(one, Reranking))
    found = {Reranking: reranking.latest}
    figures, trainer = Figures(every_n_evaluations=3), _Trainer([runs.whole.wandb.__class__()])
    for _ in range(7):
        figures.look(trainer, gates.module(None), found)  # type: ignore[arg-type]
    (logger,) = trainer.loggers
    assert [name for name, *_ in logger.images] == ["reranking", "reliability"] * 3, "the first, fourth and seventh"
    again = Figures(every_n_evaluations=3)
    again.load_state_dict(figures.state_dict())
    again.look(trainer, gates.module(None), found)  # type: ignore[arg-type]
    assert len(logger.images) == 6, "a resumed run goes on counting"


@dataclass
class _Trainer:
    loggers: list[Any]
    is_global_zero: bool = True


def test_nothing_is_drawn_for_nobody(runs: Runs) -> None:
    assert not shows_figures(_Trainer([gates.Notes()])) and not shows_figures(_Trainer([]))  # type: ignore[arg-type]
    wandb = type(runs.whole.wandb)()
    other, first = _Trainer([wandb], is_global_zero=False), _Trainer([wandb])
    module: Any = gates.module(None)
    for trainer in (other, first):
        assert shows_figures(trainer) is trainer.is_global_zero  # type: ignore[arg-type]
        show_figure(trainer, module, "a", Figure())  # type: ignore[arg-type]
        show_text(trainer, module, "b", "c", [{"d": 1}])  # type: ignore[arg-type]
    assert len(wandb.images) == len(wandb.tables) == 1, "the second process showed nothing"


def test_without_matplotlib_there_is_one_warning(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    reranking = next(one for one in runs.whole.trainer.callbacks if isinstance(one, Reranking))
    figures, trainer, module = Figures(), _Trainer([type(runs.whole.wandb)()]), gates.module(None)
    with pytest.warns(UserWarning, match="pip install matplotlib"):
        figures.look(trainer, module, {Reranking: reranking.latest})  # type: ignore[arg-type, dict-item]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.look(trainer, module, {Reranking: reranking.latest})  # type: ignore[arg-type, dict-item]
    assert trainer.loggers[0].images == []


@pytest.mark.parametrize("wrong", [{"every_n_evaluations": 0}, {"questions": -1}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="Figures cannot run"):
        Figures(**wrong)


# --- Places and processes -----------------------------------------------------------------------------------------


def test_who_looks_stands_behind_who_judges_and_before_who_saves(runs: Runs) -> None:
    names = [type(one).__name__ for one in runs.whole.trainer.callbacks]
    health, saving = names.index("Health"), names.index("AdapterCheckpoint")
    places = [place for place, one in enumerate(runs.whole.trainer.callbacks) if isinstance(one, Behind)]
    assert len(places) == 3 and health < min(places) and max(places) < saving
    assert names.index("Reranking") < health


def test_a_second_process_writes_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    monkeypatch.setattr("lightning.pytorch.Trainer.is_global_zero", False)
    module = gates.module(gates.full(base), warmup=Warmup(0), rounds=2)
    watched = watch(base, tmp_path / "run", module=module)
    assert not list(tmp_path.rglob("events.*")) and not list(tmp_path.rglob("metrics.csv"))
    assert watched.wandb.images == watched.wandb.tables == watched.wandb.hyperparameters == []


@pytest.mark.parametrize("make", [gates.grpo, gates.sft])
def test_a_baseline_shows_what_it_has(make: Any, base: Path, tmp_path: Path) -> None:
    extra = {"limit_val_batches": 1.0} if make is gates.sft else {}
    watched = watch(base, tmp_path / "run", module=make(gates.full(base)), **extra)
    assert {name for name, *_ in watched.wandb.images} == {"reranking"}
    assert {row[2] for _, _, rows, _ in watched.wandb.tables for row in rows} == {None}
    curves = scalars(tmp_path / "run" / "logs")
    assert "hp/rerank/random" in curves and "hp/rerank/reward" not in curves
    assert ("hp/pass@1" in curves) is (make is gates.sft)
    assert agree(table(tmp_path / "run" / "logs"), curves)
