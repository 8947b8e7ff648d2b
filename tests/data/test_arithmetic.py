import re

import pytest

from rairl_lightning.data.demonstrations.arithmetic import (
    BYSTANDERS,
    VERBS,
    Arithmetic,
    apply_operator,
    split_of,
    templates_of,
)
from rairl_lightning.errors import ConfigError
from rairl_lightning.types import Demonstration

LINE = re.compile(r"(\w+) (\w+) (\d): (\d) ([+*-]) (\d) = (\d)")
SMALL = Arithmetic(train_size=60, selection_size=40, test_size=40)


def chain(demonstration: Demonstration) -> str:
    steps = [LINE.fullmatch(line).groups() for line in demonstration.reasoning.splitlines()]
    return f"{steps[0][3]} " + " ".join(op + k for _, _, k, _, op, _, _ in steps)


@pytest.mark.parametrize("split", Arithmetic.SPLITS)
def test_experts_solve_their_problems(split: str) -> None:
    for one in getattr(SMALL.splits(), split):
        start = re.search(r"The dial of (\w+) is at (\d)\.(?=.*Where is the dial of \1\?)", one.prompt)
        name, value = start[1], int(start[2])
        lines = one.reasoning.splitlines()
        assert 3 <= len(lines) <= 4
        for line in lines:
            who, verb, k, before, operator, operand, after = LINE.fullmatch(line).groups()
            assert (who, int(before), operand) == (name, value, k)
            assert dict((v, o) for v, _, o in VERBS)[verb] == operator
            value = apply_operator(value, operator, int(k))
            assert value == int(after)
        assert one.answer == str(value)
        assert 1 <= sum(one.prompt.count(f"{other} ") for other in BYSTANDERS) <= 4


def test_splits_share_no_chain_and_no_template() -> None:
    splits = SMALL.splits()
    chains = {name: {chain(one) for one in getattr(splits, name)} for name in Arithmetic.SPLITS}
    assert not chains["train"] & chains["selection"] | chains["train"] & chains["test"]
    assert not chains["selection"] & chains["test"]
    assert all(split_of(f"chain {one}") == name for name, owned in chains.items() for one in owned)
    templates = [set(templates_of(name)) for name in Arithmetic.SPLITS]
    assert sum(map(len, templates)) == len(set.union(*templates)) == 6 * 10 * 6
    assert all({verb for _, verb, _ in own} == set(range(10)) for own in templates), "each split knows every verb"


def test_the_seed_decides() -> None:
    assert SMALL.splits() == SMALL.splits()
    assert SMALL.splits() != Arithmetic(train_size=60, selection_size=40, test_size=40, seed=1).splits()


def test_no_problem_twice() -> None:
    assert len({chain(one) for one in SMALL.splits().train}) == 60


def test_more_problems_than_there_are_is_an_error_and_not_an_endless_search() -> None:
    with pytest.raises(ConfigError, match="too few different train problems"):
        Arithmetic(train_size=500, min_steps=1, max_steps=1).splits()


@pytest.mark.parametrize("wrong", [{"min_steps": 0}, {"min_steps": 5}, {"max_distractors": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Arithmetic(**wrong)
