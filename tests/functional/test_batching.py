import pytest
import torch

from rairl_lightning.errors import ConfigError, DataError
from rairl_lightning.functional import local_rivals, paired_budget_split, prompt_budget_split, token_budget_split


@pytest.mark.parametrize("budget", [1, 7, 40, 1000])
def test_every_row_once_within_the_budget(generator, budget):
    lengths = torch.randint(0, 30, (53,), generator=generator)
    batches = token_budget_split(lengths, budget)
    assert sorted(torch.cat(batches).tolist()) == list(range(53))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * int(lengths[rows].max()) <= budget


def test_sorted_rows_pad_less_than_rows_as_they_come(generator):
    lengths = torch.randint(1, 100, (64,), generator=generator)

    def padded(batches):
        return sum(len(rows) * int(lengths[rows].max()) for rows in batches)

    assert padded(token_budget_split(lengths, 400)) < 1.1 * int(lengths.sum())
    assert padded(torch.arange(64).split(4)) > 1.1 * int(lengths.sum())  # control


def test_ties_keep_their_order():
    assert [rows.tolist() for rows in token_budget_split(torch.tensor([4, 4, 4]), 8)] == [[0, 1], [2]]


def test_nothing_to_split_and_no_budget():
    assert token_budget_split(torch.tensor([], dtype=torch.int64), 8) == []
    with pytest.raises(ConfigError, match="max_tokens"):
        token_budget_split(torch.tensor([1]), 0)


@pytest.mark.parametrize("budget", [1, 12, 30, 1000])
def test_pairs_stay_together(generator, budget):
    lengths = torch.randint(2, 9, (20,), generator=generator)
    rivals = torch.tensor([-1] * 4 + [n % 3 for n in range(14)] + [-1, -1])
    batches = paired_budget_split(lengths, rivals, budget)
    challengers = [row for rows in batches for row in rows.tolist() if rivals[row] >= 0]
    assert sorted(challengers) == list(range(4, 18))  # each once
    for rows in batches:
        assert len(set(rows.tolist())) == len(rows)
        assert set(rivals[rows][rivals[rows] >= 0].tolist()) == set(rows[rivals[rows] < 0].tolist())
        assert len(rows) * int(lengths[rows].max()) <= budget or len(rows) == 2
        local = local_rivals(rivals, rows)
        paired = local >= 0
        assert torch.equal(rows[local[paired]], rivals[rows][paired])


def test_without_pairs_nothing_is_left_out():
    lengths = torch.tensor([3, 9, 4, 4])
    batches = paired_budget_split(lengths, torch.full((4,), -1), 12)
    assert [rows.tolist() for rows in batches] == [[1], [2, 3, 0]]


def drawn_groups(generator):
    """Prompts of some lengths, traces in any order; a prompt may have one trace, or an empty completion."""
    prompt_lengths = torch.randint(1, 20, (12,), generator=generator)
    prompts = torch.randint(0, 12, (53,), generator=generator)
    shared = prompt_lengths[prompts]
    return shared + torch.randint(0, 30, (53,), generator=generator), shared, prompts


def read(rows, lengths, shared, prompts):
    """Tokens of a packed row: each trace's completion, each prompt once."""
    once = {int(prompts[row]): int(shared[row]) for row in rows}
    return sum(once.values()) + int((lengths - shared)[rows].sum())


@pytest.mark.parametrize("budget", [1, 30, 60, 200, 10_000])
def test_every_row_once_within_the_budget_of_unique_tokens(generator, budget):
    lengths, shared, prompts = drawn_groups(generator)
    batches = prompt_budget_split(lengths, shared, prompts, budget)
    assert sorted(torch.cat(batches).tolist()) == list(range(53))
    for rows in batches:
        assert len(rows) == 1 or read(rows, lengths, shared, prompts) <= budget
    assert len(batches) == 1 or budget < 10_000


def test_a_prompt_that_fits_whole_is_read_once(generator):
    lengths, shared, prompts = drawn_groups(generator)
    budget = max(read(torch.nonzero(prompts == p).flatten(), lengths, shared, prompts) for p in prompts.unique())
    unique = read(torch.arange(53), lengths, shared, prompts)

    def all_read(batches):
        return sum(read(rows, lengths, shared, prompts) for rows in batches)

    assert all_read(prompt_budget_split(lengths, shared, prompts, budget)) == unique
    assert all_read(token_budget_split(lengths, budget)) > unique  # control: by length alone, prompts are parted


def test_a_group_beyond_the_budget_is_parted_and_bad_input_refused():
    lengths, shared, prompts = torch.tensor([5, 5, 5]), torch.tensor([3, 3, 3]), torch.zeros(3, dtype=torch.int64)
    assert [rows.tolist() for rows in prompt_budget_split(lengths, shared, prompts, 7)] == [[0, 1], [2]]
    assert prompt_budget_split(lengths[:0], shared[:0], prompts[:0], 7) == []
    with pytest.raises(ConfigError, match="max_tokens"):
        prompt_budget_split(lengths, shared, prompts, 0)
    with pytest.raises(DataError):
        prompt_budget_split(lengths, shared[:2], prompts, 7)
