import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rairl_lightning.functional import processes
from rairl_lightning.functional.batching import paired_budget_split, token_budget_split

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@settings(deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 120), of=st.integers(1, 7))
def test_every_row_is_somebodys_once_and_no_part_is_larger(lengths: list[int], budget: int, of: int) -> None:
    lengths_N = torch.tensor(lengths)
    batches = token_budget_split(lengths_N, budget)
    parts = [processes._dealt(batches, None, place, of) for place in range(of)]
    assert sorted(int(row) for mine in parts for rows in mine for row in rows) == list(range(len(lengths)))
    for rows in (rows for mine in parts for rows in mine):
        assert any(set(rows.tolist()) <= set(batch.tolist()) for batch in batches) and len(rows)
    passes = [len(mine) for mine in parts]
    assert max(passes) - min(passes) <= len(batches) % of  # only what is cut may have too few rows for all
    assert parts[0], "the first process always has something"


@settings(deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 120), of=st.integers(1, 5), data=st.data())
def test_a_trace_never_comes_without_its_demonstration(
    lengths: list[int], budget: int, of: int, data: st.DataObject
) -> None:
    count = len(lengths)
    experts = max(1, count // 3)
    rivals = [-1] * experts + [data.draw(st.integers(-1, experts - 1)) for _ in range(count - experts)]
    rivals_N = torch.tensor(rivals)
    batches = paired_budget_split(torch.tensor(lengths), rivals_N, budget)
    parts = [processes._dealt(batches, rivals_N, place, of) for place in range(of)]
    challengers = [row for row, rival in enumerate(rivals) if rival >= 0]
    came = sorted(int(row) for mine in parts for rows in mine for row in rows if rivals[int(row)] >= 0)
    assert came == challengers
    for rows in (rows.tolist() for mine in parts for rows in mine):
        assert {rivals[row] for row in rows if rivals[row] >= 0} <= set(rows)


def test_one_process_sends_nothing_and_changes_nothing() -> None:
    values = torch.tensor([1.0, 2.0])
    parameter = torch.nn.Parameter(values)
    parameter.grad = torch.tensor([3.0, 4.0])
    processes.sum_gradients([parameter])
    assert processes.summed(values) == (values,) and processes.joined(values) is values
    assert (processes.count(), processes.rank(), processes.share(5)) == (1, 0, range(5))
    assert processes.total(2.5, values.device) == processes.agreed(2.5, values.device) == 2.5
    assert parameter.grad.tolist() == [3.0, 4.0] and processes.largest(3, values.device) == 3
