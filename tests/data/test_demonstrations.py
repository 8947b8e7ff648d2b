"""Splits are disjoint, stable and never empty by accident."""

import random

import pytest

from rairl_lightning.data.demonstrations import Splits, held_out
from rairl_lightning.data.demonstrations.base import demonstration_from
from rairl_lightning.data.demonstrations.records import Record
from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.types import Demonstration


def demo(number, prompt=None):
    return Demonstration(str(number), prompt or f"question {number}", "because", "5")


def ids(demonstrations):
    return {demonstration.id for demonstration in demonstrations}


def test_held_out_is_a_partition_that_ignores_order_and_neighbours():
    demos = [demo(number) for number in range(2000)]
    train, selection = held_out(demos, 0.1)
    assert sorted(int(d.id) for d in train + selection) == list(range(2000))
    assert 150 < len(selection) < 250
    shuffled = random.Random(0).sample(demos, 2000)
    assert ids(held_out(shuffled, 0.1)[1]) == ids(selection)
    assert ids(held_out(demos[:1000], 0.1)[1]) == {d.id for d in selection if int(d.id) < 1000}
    assert ids(selection) < ids(held_out(demos, 0.2)[1])


def test_the_hash_is_the_same_everywhere():
    assert ids(held_out([demo(number) for number in range(40)], 0.2)[1]) == {"1", "11", "13", "18", "19", "22", "27"}


def test_equal_questions_stay_together():
    demos = [demo(number, f"Same  QUESTION {number % 50}" if number % 2 else f"same question {number % 50}")
             for number in range(200)]  # fmt: skip
    train, selection = held_out(demos, 0.5)
    assert not {d.prompt.casefold().split()[-1] for d in train} & {d.prompt.casefold().split()[-1] for d in selection}


@pytest.mark.parametrize("fraction", [1e-9, 0.05, 0.5, 0.999999])
def test_each_side_gets_a_question(fraction):
    train, selection = held_out([demo(1), demo(2), demo(3)], fraction)
    assert train and selection and len(train + selection) == 3


def test_nothing_is_held_out_of_nothing():
    assert held_out([demo(1)], 0) == ((demo(1),), ())
    with pytest.raises(DataError, match=r"at least 2 different questions"):
        held_out([demo(1), demo(2, "QUESTION  1")], 0.5)
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="selection_fraction"):
            held_out([demo(1), demo(2)], fraction)


def test_a_question_in_two_splits_is_refused():
    with pytest.raises(DataError, match=r"(?s)in train \(id '1'\) and in test \(id '9'\).*remove it from train"):
        Splits((demo(1, "How many?"),), (), (demo(9, " how  MANY? "),))
    Splits((demo(1, "How many?"), demo(2, "How many?")))


def test_ids_are_unique_and_train_is_not_empty():
    with pytest.raises(DataError, match="'1' is used twice"):
        Splits((demo(1),), (), (demo(1, "another"),))
    with pytest.raises(DataError, match="no training demonstration"):
        Splits((), (demo(1),))
    assert Splits((), (), (demo(1),)).train == (), "a data set for evaluation only"


def test_limits_keep_the_first():
    splits = Splits((demo(1), demo(2)), (demo(3), demo(4)), (demo(5),))
    assert splits.limited() == splits
    assert splits.limited(train=1, selection=9) == Splits((demo(1),), (demo(3), demo(4)), (demo(5),))
    with pytest.raises(ConfigError, match="test_limit is too small"):
        splits.limited(test=0)


@pytest.mark.parametrize("field", ["reasoning", "answer"])
def test_tags_in_the_data_are_refused(field):
    texts = {"reasoning": "because", "answer": "5", field: "a </think> b"}
    with pytest.raises(DataError, match=rf"f\.jsonl:3 has a tag in its {field}"):
        demonstration_from(Record("f.jsonl:3", {}), id="1", prompt="q", **texts)
