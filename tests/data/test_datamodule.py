"""What reaches a round, in an order that seed and epoch decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gates
import pytest
from lightning.pytorch.trainer.states import TrainerFn

from rairl_lightning.data.datamodule import DemonstrationDataModule, RoundLoader, with_path
from rairl_lightning.data.demonstrations import GSM8K, Arithmetic, DemonstrationSource, Splits
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.text.perturbations import NudgedAnswer
from rairl_lightning.types import TrainBatch


@pytest.fixture(scope="module")
def codec(base: Path) -> Any:
    return gates.full(base).load_codec()


def ready(
    codec: Any, fn: TrainerFn = TrainerFn.FITTING, stage: str = "fit", **settings: Any
) -> DemonstrationDataModule:
    data = gates.data(**settings)
    data.trainer = SimpleNamespace(lightning_module=SimpleNamespace(codec=codec), state=SimpleNamespace(fn=fn))
    data.setup(stage)
    return data


def ids(batches: Iterator[TrainBatch]) -> list[list[str]]:
    return [[one.id for one in batch.demonstrations] for batch in batches]


def content(batch: TrainBatch) -> tuple[Any, ...]:
    return (
        batch.demonstrations,
        batch.prompts,
        batch.experts.traces(),
        batch.perturbed.tokens.traces(),
        batch.perturbed.kinds,
        batch.replayed.traces(),
    )


# --- Batches ------------------------------------------------------------------------------------------------------


def test_a_batch_holds_experts_perturbed_and_replayed(codec: Any) -> None:
    data = ready(codec, perturbed_copies=2, replayed=3)
    loader = data.train_dataloader()
    first = next(iter(loader))
    assert len(first) == len(first.prompts) == len(first.experts) == 2
    assert len(first.replayed) == 0, "nothing was sampled yet"
    data.buffer.push(first.experts)
    data.buffer.push(first.experts)
    batch = next(iter(loader))
    assert len(batch.replayed) == 3
    assert len(batch.perturbed.tokens) == 4 and batch.perturbed.sources.tolist() == [0, 0, 1, 1]
    for demonstration, trace, prompt in zip(batch.demonstrations, batch.experts.traces(), batch.prompts, strict=True):
        assert trace == codec.encode_demonstration(demonstration)
        assert prompt == tuple(trace.prompt_ids)


def test_an_epoch_visits_each_demonstration_once(codec: Any) -> None:
    loader = ready(codec, batch_size=3).train_dataloader()
    sizes = [len(batch) for batch in loader]
    assert sizes == [3, 3, 2] and len(loader) == 3, "the incomplete batch is not dropped"
    assert sorted(chain(*ids(iter(loader)))) == sorted(one.id for one in gates.Gates().splits().train)


def test_order_is_a_function_of_seed_and_epoch(codec: Any) -> None:
    loader, again = (ready(codec, seed=1).train_dataloader() for _ in range(2))
    epochs = [ids(iter(loader)) for _ in range(3)]
    assert epochs == [ids(iter(again)) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != ids(iter(ready(codec, seed=2).train_dataloader()))


def test_an_iterator_that_is_not_exhausted_still_ends_its_epoch(codec: Any) -> None:
    """Lightning knows the length and never asks for the batch after the last."""
    loader = ready(codec).train_dataloader()
    epochs = [ids(islice(iter(loader), len(loader))) for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [4, 4, 4]
    assert epochs == [ids(iter(one)) for one in [ready(codec).train_dataloader()] for _ in range(3)]


def test_evaluation_keeps_the_given_order_at_every_validation(codec: Any) -> None:
    loader = ready(codec, eval_batch_size=3).eval_loader("test")
    given = [[f"gate-{12 + i}" for i in range(3)], ["gate-15"]]
    assert ids(islice(iter(loader), 2)) == given == ids(iter(loader))
    assert all(len(batch.perturbed.tokens) == len(batch.replayed) == 0 for batch in loader)


@pytest.mark.parametrize("stop", range(9))
def test_a_loader_resumes_in_the_middle(codec: Any, stop: int) -> None:
    straight = ready(codec).train_dataloader()
    stopped = ready(codec).train_dataloader()
    whole = [content(batch) for _ in range(3) for batch in straight]
    for _ in range(stop // 4):
        list(stopped)
    list(islice(iter(stopped), stop % 4))
    resumed = ready(codec).train_dataloader()
    resumed.load_state_dict(stopped.state_dict())
    epochs = iter(lambda: list(resumed), None)
    rest = [content(batch) for epoch in islice(epochs, 3) for batch in epoch]
    assert rest[: 12 - stop] == whole[stop:]


# --- Splits -------------------------------------------------------------------------------------------------------


def test_selection_is_used_while_fitting_and_test_otherwise(codec: Any) -> None:
    def split(fn: TrainerFn) -> list[str]:
        return [*chain(*ids(iter(ready(codec, fn).val_dataloader())))]

    assert split(TrainerFn.FITTING) == ["gate-8", "gate-9", "gate-10", "gate-11"]
    for fn in (TrainerFn.VALIDATING, TrainerFn.TESTING):
        assert split(fn) == ["gate-12", "gate-13", "gate-14", "gate-15"]
    data = ready(codec)
    assert ids(iter(data.test_dataloader())) == ids(iter(data.predict_dataloader())) != ids(iter(data.val_dataloader()))


def test_what_is_too_long_is_left_out_counted_and_reported(codec: Any) -> None:
    short = len(codec.encode_prompt("gate 9"))
    with pytest.warns(UserWarning, match="2 of 4 selection examples are longer"):
        data = ready(codec, source=gates.Gates(test=0), max_prompt_tokens=short)
    assert data.left_out == {"train": 0, "selection": 2, "test": 0}
    assert [one.id for one in data.examples("selection")] == ["gate-8", "gate-9"]


class Uneven(DemonstrationSource):
    """Long demonstrations everywhere but in the training split."""

    def splits(self) -> Splits:
        long = [replace(gates.solution(i), reasoning="1 + 2 = 3\n" * 4) for i in range(1, 7)]
        return Splits((gates.solution(0),), (gates.solution(9), *long[:5]), (long[5],))


def test_a_long_demonstration_is_no_reason_to_leave_out_a_test_question(codec: Any) -> None:
    length = len(codec.encode_demonstration(gates.solution(0)).completion_ids)
    with pytest.raises(DataError, match="Every train example is too long"), pytest.warns(UserWarning):
        ready(codec, max_completion_tokens=length - 1)
    with pytest.warns(UserWarning, match="5 of 6 selection"):
        data = ready(codec, source=Uneven(), max_completion_tokens=length)
    assert data.left_out == {"train": 0, "selection": 5, "test": 0} and len(data.examples("test")) == 1
    assert ready(codec, max_completion_tokens=length).left_out == {"train": 0, "selection": 0, "test": 0}


def test_data_is_read_once_and_not_before_setup(codec: Any) -> None:
    data = gates.data()
    with pytest.raises(ConfigError, match="before it is set up"):
        data.examples("train")
    data = ready(codec)
    splits = data.splits
    data.setup("test")
    assert data.splits is splits


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"eval_batch_size": 0}, {"perturbed_copies": -1}, {"replayed": -1}, {"replay_rounds": -1}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        gates.data(**wrong)


# --- Negatives ----------------------------------------------------------------------------------------------------


def test_perturbed_for_localisation_is_the_same_every_time(codec: Any) -> None:
    data = ready(codec)
    test = data.examples("test")
    first, again, other = (data.perturbed(test, seed) for seed in (0, 0, 1))
    assert len(first.kinds) == len(test) and first.tokens.traces() == again.tokens.traces()
    assert first.tokens.traces() != other.tokens.traces()


def test_without_applicable_perturbation_there_are_no_perturbed(codec: Any) -> None:
    for perturbations in ([], [NudgedAnswer()]):  # the answer is a word
        data = ready(codec, perturbations=perturbations)
        batch = next(iter(data.train_dataloader()))
        assert len(batch.perturbed.tokens) == 0 and batch.perturbed.spans.shape == (0, 2)
        assert data.negatives.rejected["NudgedAnswer"] == (2 if perturbations else 0)


# --- State and path -----------------------------------------------------------------------------------------------


def test_state_holds_the_buffer(codec: Any) -> None:
    data, other = ready(codec), ready(codec)
    data.buffer.push(next(iter(data.train_dataloader())).experts)
    other.load_state_dict(data.state_dict())
    assert len(other.buffer) == 2
    assert content(next(iter(other.train_dataloader()))) == content(next(iter(data.train_dataloader())))


def test_with_path_replaces_the_path_of_sources_that_read_one() -> None:
    assert with_path(GSM8K(path="a"), "b").path == "b"
    assert with_path(GSM8K(path="a"), None).path == "a"
    with pytest.raises(ConfigError, match="Arithmetic has no path"):
        with_path(Arithmetic(), "b")


def test_a_source_for_evaluation_only_is_refused_by_fit_alone(codec: Any) -> None:
    with pytest.raises(DataError, match=r"(?s)Gates has no training demonstrations.*got: +4 test questions"):
        ready(codec, source=gates.Gates(train=0))
    data = ready(codec, stage="test", source=gates.Gates(train=0))
    assert len(data.examples("test")) == 4 and len(list(data.test_dataloader())) == 1
    assert len(RoundLoader((), None, 4, None)) == 0
